package wire

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var textKeys = Keys{Send: 1, Keys: []Key{{Index: 1, Method: SHA1, Secret: []byte("secret")}}}

func mustEncode(t interface{ Fatal(...any) }, m Message, f Format) []byte {
	p, err := Encode(nil, m, f, textKeys)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Text made of a packet is what Encode would have written, signature included.
func TestTextOfBothIsClassic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m Message
		for range rapid.IntRange(1, 8).Draw(t, "fields") {
			f := Field{Name: rapid.StringMatching(`[a-z_]{1,8}`).Filter(func(s string) bool { return s != authField }).Draw(t, "name")}
			if f.Type = rapid.SampledFrom([]FieldType{String, Binary}).Draw(t, "type"); f.Type == Binary {
				f.Value = rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "binary")
			} else {
				f.Value = []byte(rapid.StringMatching(`[ -~\n]{0,40}`).Draw(t, "text"))
			}
			m.Fields = append(m.Fields, f)
		}
		classic := mustEncode(t, m, Classic)
		want := classic[:len(classic)-1] // without NUL
		for _, f := range []Format{Both, Classic} {
			got, err := AppendText([]byte("x"), mustEncode(t, m, f))
			if err != nil || !bytes.Equal(got, append([]byte("x"), want...)) {
				t.Fatalf("%v: %v\n%q\nwant\n%q", f, err, got, want)
			}
		}
		if _, f, err := Decode(want, textKeys); err != nil || f != Classic {
			t.Fatalf("the text does not decode: %v, %v", f, err)
		}
	})
}

func TestTextRefuses(t *testing.T) {
	m := New("status", "src", "a")
	both := mustEncode(t, m, Both)
	for _, c := range []struct {
		name   string
		packet []byte
		want   error
	}{
		{"netstring", mustEncode(t, m, Netstring), ErrUnsupported},
		{"a byte that text reads as newline", mustEncode(t, New("x", "info", "a\x13b"), Both), ErrField},
		{"nested field", append([]byte("###\n8:(2)n=a\nb,"), both[4:]...), ErrField},
		{"second auth", append([]byte("###\n10:(0)auth=1 ,"), both[4:]...), ErrMalformed},
		{"empty", nil, ErrMalformed},
		{"neither", []byte("hello"), ErrMalformed},
		{"cut off", both[:30], ErrMalformed},
		{"without type", []byte("###\n3:a=b,%%%\n"), ErrMalformed},
	} {
		got, err := AppendText([]byte("x"), c.packet)
		if !errors.Is(err, c.want) || string(got) != "x" {
			t.Errorf("%s: %q, %v, want %v", c.name, got, err, c.want)
		}
	}
}

func FuzzAppendText(f *testing.F) {
	m := New("status", "src", "a", "info", "two\nlines")
	for _, form := range []Format{Classic, Netstring, Both} {
		f.Add(mustEncode(f, m, form))
	}
	f.Add([]byte("###\n10:(0)auth=1 ,%%%\n"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		before := bytes.Clone(packet)
		text, err := AppendText(nil, packet)
		if !bytes.Equal(before, packet) {
			t.Fatal("the packet was changed")
		}
		want, _, derr := Decode(packet, textKeys)
		if err != nil || derr != nil {
			return
		}
		got, form, err := Decode(text, textKeys)
		if errors.Is(err, ErrAuth) || errors.Is(err, ErrMalformed) || errors.Is(err, ErrKey) {
			return // the inner authenticator is nobody's concern but the text's
		}
		if err != nil || form != Classic {
			t.Fatalf("%v, %v: %q", form, err, text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}
