package wire

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseAuthkeys(t *testing.T) {
	got, err := ParseAuthkeys(strings.NewReader(`# comment
auth 2

1 crc
  2	sha1  hbstudykey
15 md5 #no-comment
0 sha256 s3cret`), "authkeys")
	if err != nil {
		t.Fatal(err)
	}
	want := Keys{Send: 2, Keys: []Key{
		{1, CRC, nil}, {2, SHA1, []byte("hbstudykey")}, {15, MD5, []byte("#no-comment")}, {0, SHA256, []byte("s3cret")},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestParseAuthkeysRefuses(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "f:1: no line \"auth N\""},
		{"no auth", "# x\n1 crc\n", "f:2: no line \"auth N\""},
		{"auth without index", "auth\n", "f:1: want \"auth N\""},
		{"auth with two", "auth 1 2\n", "f:1: want \"auth N\""},
		{"auth not a number", "auth one\n", "f:1: the index of a key is a number from 0 to 15"},
		{"auth 16", "auth 16\n", "f:1: the index of a key is a number from 0 to 15"},
		{"auth twice", "auth 1\n1 crc\nauth 1\n", "f:3: second line \"auth N\", the first is line 1"},
		{"auth of nothing", "1 crc\nauth 2\n\n", "f:2: \"auth 2\" chooses a key that the file does not have"},
		{"index 16", "auth 1\n16 crc\n", "f:2: the index of a key is a number from 0 to 15"},
		{"index twice", "auth 1\n1 crc\n1 sha1 x\n", "f:3: key 1 is there twice"},
		{"no method", "auth 1\n1\n", "f:2: key 1 has no method"},
		{"no index", "auth 1\nsha1 s3cret\n", "f:2: want \"auth N\" or \"N method [key]\""},
		{"method missing", "auth 1\n1 s3cret\n", "f:2: key 1: unknown method"},
		{"key missing", "auth 1\n1 sha1\n", "f:2: key 1: no usable key: method sha1 needs a key word"},
		{"key for crc", "auth 1\n1 crc s3cret\n", "f:2: key 1: no usable key: method crc takes no key word"},
		{"two words", "auth 1\n1 sha1 s3cret s3cret\n", "f:2: key 1: text after the key"},
		{"line without end", "auth 1\n1 sha1 " + strings.Repeat("s3cret", 20000), "f:2: bufio.Scanner: token too long"},
		{"all at once", "auth 1\n1 sha1\n2 x\n", "f:2: key 1: no usable key: method sha1 needs a key word\nf:3: key 2: unknown method, want crc, md5, sha1 or sha256"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseAuthkeys(strings.NewReader(c.text), "f")
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Fatalf("got %v, want %s", err, c.want)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("tells the key: %v", err)
			}
			if got.Keys != nil {
				t.Errorf("returned %v", got)
			}
		})
	}
}

func TestKeyIsNotPrinted(t *testing.T) {
	keys := Keys{Send: 1, Keys: []Key{{1, SHA1, []byte("s3cret")}}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		// As text, as a list of decimal bytes, as hex.
		if s := fmt.Sprintf(verb, keys); strings.Contains(s, "s3cret") || strings.Contains(s, "115") || strings.Contains(s, "0x73") {
			t.Errorf("%s prints %s", verb, s)
		}
	}
}

func TestLoadAuthkeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "authkeys")
	if _, err := LoadAuthkeys(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	if err := os.WriteFile(path, []byte("auth 1\n1 sha1 x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[fs.FileMode]error{
		0o600: nil, 0o400: nil, 0o700: nil,
		0o640: ErrMode, 0o604: ErrMode, 0o620: ErrMode, 0o602: ErrMode, 0o601: ErrMode, 0o666: ErrMode,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		keys, err := LoadAuthkeys(path)
		if mode == 0o400 || mode == 0o600 || mode == 0o700 {
			if err != nil || keys.Send != 1 {
				t.Errorf("%04o: %v, %v", mode, keys, err)
			}
		} else if !errors.Is(err, want) || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("%04o: got %v, want %v", mode, err, want)
		}
	}
	if _, err := LoadAuthkeys(filepath.Dir(path)); !errors.Is(err, errNotRegular) {
		t.Errorf("directory: %v", err)
	}
	if err := os.WriteFile(path, []byte("1 sha1 x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadAuthkeys(path); err == nil || !strings.HasPrefix(err.Error(), path+":1: ") {
		t.Errorf("bad content: %v", err)
	}
}

func FuzzParseAuthkeys(f *testing.F) {
	f.Add("auth 1\n1 sha1 hbstudykey\n")
	f.Add("# two\nauth 2\n1 crc\n2 md5 x\n")
	f.Add("auth 16\n1\n\n1 sha1 x y\r\nauth\n")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := ParseAuthkeys(strings.NewReader(text), "f")
		if err != nil {
			for _, line := range strings.Split(err.Error(), "\n") {
				if !strings.HasPrefix(line, "f:") {
					t.Fatalf("no place: %q", line)
				}
			}
			return
		}
		var b strings.Builder
		fmt.Fprintf(&b, "auth %d\n", keys.Send)
		for _, k := range keys.Keys {
			fmt.Fprintf(&b, "%d %s %s\n", k.Index, k.Method, k.Secret)
		}
		again, err := ParseAuthkeys(strings.NewReader(b.String()), "f")
		if err != nil {
			t.Fatalf("%q: %v", b.String(), err)
		}
		if diff := cmp.Diff(keys, again); diff != "" {
			t.Fatalf("(-first +second)\n%s", diff)
		}
		if _, err := Encode(nil, New("status"), Both, keys); err != nil {
			t.Fatalf("%v cannot sign: %v", keys, err)
		}
	})
}
