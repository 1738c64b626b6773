package wire

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestMessageFields(t *testing.T) {
	m := New("resource", "rsc_hold", "all", "rtype", "full")
	m.SetBinary("srcuuid", []byte{0, 0xff})
	m.Set("seq", "1f")
	m.Set("rsc_hold", "none")
	if got, want := m.String(), "t=resource rsc_hold=none rtype=full srcuuid=00ff seq=1f"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if m.Type() != "resource" {
		t.Errorf("type %q", m.Type())
	}
	if _, ok := m.Get("srcuuid"); ok {
		t.Error("Get returns a binary field")
	}
	if _, ok := m.GetBinary("seq"); ok {
		t.Error("GetBinary returns a string field")
	}
	if n, ok := m.GetUint("seq", 16); n != 0x1f || !ok {
		t.Errorf("seq is %d, %v", n, ok)
	}
	for _, name := range []string{"rtype", "srcuuid", "absent"} {
		if n, ok := m.GetUint(name, 16); ok {
			t.Errorf("%s is a number: %d", name, n)
		}
	}
	c := m.Clone()
	c.Fields[0].Value[0] = 'X'
	c.Set("rtype", "part")
	m.Fields = append(m.Fields, Field{"seq", String, []byte("2")})
	m.Del("seq")
	m.Del("absent")
	if got, want := m.String(), "t=resource rsc_hold=none rtype=full srcuuid=00ff"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := New("a", "b", "x y", "c", "", "d", "ü").String(), `t=a b="x y" c="" d="ü"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	defer func() {
		if recover() == nil {
			t.Error("New accepts a name without a value")
		}
	}()
	odd := strings.Fields("st")
	New("status", odd...)
}

func TestForms(t *testing.T) {
	m := New("status", "st", "up", "info", "two\nlines")
	m.SetBinary("u", []byte{0xff, '\n'})
	k := Keys{Send: 3, Keys: []Key{{3, CRC, nil}}}
	classic := "t=status\nst=up\ninfo=two\x13lines\n(1)u=/wo=\n"
	inner := "3 " + slowCRC(classic)
	fields := "###\n11:(0)t=status,8:(0)st=up,17:(0)info=two\nlines,7:(1)u=\xff\n,"
	trailed := func(s string) string {
		auth := "3 " + slowCRC(s)
		return fmt.Sprintf("%s%d:%s,", s, len(auth), auth)
	}
	for f, want := range map[Format]string{
		Classic:   ">>>\n" + classic + "auth=" + inner + "\n<<<\n\x00",
		Netstring: trailed(fields + "%%%\n"),
		Both:      trailed(fmt.Sprintf("%s%d:(0)auth=%s,%%%%%%\n", fields, len("(0)auth=")+len(inner), inner)),
	} {
		got, err := Encode([]byte("before"), m, f, k)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != "before"+want {
			t.Errorf("%v:\n got %q\nwant %q", f, got, "before"+want)
		}
		again, form, err := Decode(got[len("before"):], k)
		if err != nil || form != f {
			t.Fatalf("%v: form %v, %v", f, form, err)
		}
		if diff := cmp.Diff(m, again); diff != "" {
			t.Errorf("%v: (-want +got)\n%s", f, diff)
		}
	}
}

// slowCRC is the checksum of section 3 by way of the reflected algorithm of
// the standard library, so as to share no code with crc.go.
func slowCRC(s string) string {
	r := make([]byte, len(s))
	for i := range len(s) {
		r[i] = bits.Reverse8(s[i])
	}
	// The library starts with all ones; an update that begins with the
	// complement of that starts with zero.
	c := crc32.Update(0xffffffff, crc32.IEEETable, r)
	return fmt.Sprintf("%x", bits.Reverse32(c))
}

func TestCRC(t *testing.T) {
	// CRC-32/CKSUM of the CRC catalogue: its check value is without length.
	if got := crcFinish(crcUpdate(0, []byte("123456789"))); got != 0x765e7680 {
		t.Errorf("got %08x", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		k := Key{Index: 0, Method: CRC}
		if got, want := string(k.appendAuth(nil, []byte(s), nil)), "0 "+slowCRC(s); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}

func TestHMACVectors(t *testing.T) {
	long := bytes.Repeat([]byte{0xaa}, 131) // longer than a block
	for _, v := range []struct {
		method Method
		secret []byte
		text   string
		want   string
	}{
		// RFC 2202 section 2, cases 2 and 6
		{MD5, []byte("Jefe"), "what do ya want for nothing?", "750c783e6ab0b503eaa86e310a5db738"},
		{MD5, long[:80], "Test Using Larger Than Block-Size Key - Hash Key First", "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"},
		// RFC 2202 section 3, cases 2 and 6
		{SHA1, []byte("Jefe"), "what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
		{SHA1, long[:80], "Test Using Larger Than Block-Size Key - Hash Key First", "aa4ae5e15272d00e95705637ce8a3b55ed402112"},
		// RFC 4231 cases 2 and 6
		{SHA256, []byte("Jefe"), "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{SHA256, long, "Test Using Larger Than Block-Size Key - Hash Key First", "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
	} {
		k := Key{Index: 12, Method: v.method, Secret: v.secret}
		for cut := range len(v.text) {
			if got := string(k.appendAuth(nil, []byte(v.text[:cut]), []byte(v.text[cut:]))); got != "12 "+v.want {
				t.Fatalf("%s: got %s, want %s", v.method, got, v.want)
			}
		}
	}
}

func TestRoundTrip(t *testing.T) {
	name := rapid.StringMatching(`[!-'*-;?-~][!-<>-~]{0,10}`).Filter(func(s string) bool { return s != authField })
	field := rapid.Custom(func(t *rapid.T) Field {
		f := Field{Name: name.Draw(t, "name"), Type: FieldType(rapid.IntRange(0, 1).Draw(t, "type"))}
		f.Value = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "value")
		if f.Type == String {
			f.Value = bytes.Map(func(r rune) rune {
				if r == 0 || r == softNewline {
					return '\n'
				}
				return r
			}, bytes.ToValidUTF8(f.Value, []byte("?")))
		}
		return f
	})
	rapid.Check(t, func(t *rapid.T) {
		m := Message{Fields: rapid.SliceOfN(field, 1, 20).Draw(t, "fields")}
		keys := Keys{Send: rapid.SampledFrom(allKeys.Keys).Draw(t, "key").Index, Keys: allKeys.Keys}
		f := Format(rapid.IntRange(0, int(Both)).Draw(t, "form"))
		p, err := Encode(nil, m, f, keys)
		if err != nil {
			t.Fatal(err)
		}
		packet := bytes.Clone(p)
		got, form, err := Decode(packet, keys)
		if err != nil || form != f {
			t.Fatalf("form %v, %v: %q", form, err, p)
		}
		clear(packet) // nothing may alias it
		again, err := Encode(nil, got, form, keys)
		if err != nil || !bytes.Equal(p, again) {
			t.Fatalf("%v\nfirst  %q\nsecond %q", err, p, again)
		}
		for i := range got.Fields { // nor may fields alias each other
			got.Fields[i].Value = append(got.Fields[i].Value, "overwrites"...)
		}
		for i, fld := range got.Fields {
			if want := m.Fields[i]; fld.Name != want.Name || !bytes.Equal(fld.Value[:len(want.Value)], want.Value) {
				t.Fatalf("field %d: got %v, want %v", i, fld, want)
			}
		}
	})
}

func TestEncodeRefuses(t *testing.T) {
	with := func(name string, typ FieldType, value string) Message {
		m := New("status")
		m.Fields = append(m.Fields, Field{name, typ, []byte(value)})
		return m
	}
	one := func(k Key) Keys { return Keys{Send: k.Index, Keys: []Key{k}} }
	for _, c := range []struct {
		name string
		m    Message
		f    Format
		k    Keys
		is   error
		says string
	}{
		{"no field", Message{}, Both, allKeys, ErrField, "empty"},
		{"empty name", with("", String, "x"), Both, allKeys, ErrField, "without a name"},
		{"equals sign in name", with("a=b", String, "x"), Both, allKeys, ErrField, "'='"},
		{"newline in name", with("a\nb", String, "x"), Both, allKeys, ErrField, `'\n'`},
		{"delimiter as name", with("<<<", String, "x"), Both, allKeys, ErrField, "begins with '<'"},
		{"type prefix in name", with("(1)a", String, "x"), Classic, allKeys, ErrField, "begins with '('"},
		{"auth", with("auth", String, "1 00"), Both, allKeys, ErrField, "auth"},
		{"NUL", with("a", String, "x\x00"), Both, allKeys, ErrField, "NUL"},
		{"0x13 in classic", with("a", String, "x\x13"), Classic, allKeys, ErrField, "0x13"},
		{"nested in both", with("a", Nested, "x"), Both, allKeys, ErrField, "only in the form it came in"},
		{"newline in a nested classic", with("a", Nested, "x\n"), Classic, allKeys, ErrField, "line"},
		{"type 5", with("a", 5, "x"), Netstring, allKeys, ErrField, "unknown type 5"},
		{"unknown form", New("status"), 3, allKeys, ErrField, "Format(3)"},
		{"too long", with("a", String, strings.Repeat("x", MaxPacket)), Netstring, allKeys, ErrTooLong, "at most 262144"},
		{"much too long", with("a", String, strings.Repeat("x", 5*MaxPacket)), Netstring, allKeys, ErrTooLong, "at most 262144"},
		{"no key", New("status"), Both, Keys{Send: 4, Keys: allKeys.Keys}, ErrKey, "key 4"},
		{"unknown method", New("status"), Both, one(Key{1, "sha9", []byte("x")}), ErrKey, "sha9"},
		{"no key word", New("status"), Both, one(Key{1, SHA1, nil}), ErrKey, "needs a key word"},
		{"key word for crc", New("status"), Both, one(Key{1, CRC, []byte("x")}), ErrKey, "takes no key word"},
		{"key index 16", New("status"), Both, one(Key{16, SHA1, []byte("x")}), ErrKey, "16"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Encode([]byte("before"), c.m, c.f, c.k)
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v and %q", err, c.is, c.says)
			}
			if string(got) != "before" {
				t.Errorf("dst changed: %q", got)
			}
		})
	}
}

// sealNetstring and sealClassic make a packet of anything, with a right
// authenticator.
func sealNetstring(fields string) []byte {
	p := []byte(netstringOpen + fields + netstringClose)
	auth := allKeys.Keys[1].appendAuth(nil, p, nil)
	return append(p, fmt.Sprintf("%d:%s,", len(auth), auth)...)
}

func sealClassic(lines string) []byte {
	auth := allKeys.Keys[1].appendAuth(nil, []byte(lines), nil)
	return []byte(classicOpen + lines + "auth=" + string(auth) + "\n" + classicClose + "\x00")
}

func TestDecodeRefuses(t *testing.T) {
	status := sealNetstring("11:(0)t=status,")
	for _, c := range []struct {
		name   string
		packet []byte
		is     error
		says   string
	}{
		{"empty", nil, ErrMalformed, "byte 0: begins with neither"},
		{"foreign", []byte("GET / HTTP/1.1\r\n"), ErrMalformed, "byte 0: begins with neither"},
		{"too long", append([]byte("###\n"), make([]byte, MaxPacket)...), ErrMalformed, "longer than 262144"},
		{"no fields", sealNetstring(""), ErrMalformed, "without fields"},
		{"no fields, classic", sealClassic(""), ErrMalformed, "without fields"},
		{"length with leading zero", sealNetstring("011:(0)t=status,"), ErrMalformed, "byte 4: expected the length"},
		{"length with sign", sealNetstring("+11:(0)t=status,"), ErrMalformed, "byte 4: expected the length"},
		{"huge length", sealNetstring("99999999999999999999:(0)t=status,"), ErrMalformed, "byte 4: length of netstring exceeds"},
		{"cut off", []byte("###\n11:(0)t=stat"), ErrMalformed, "byte 4: netstring of 11 bytes is cut off"},
		{"no comma", sealNetstring("11:(0)t=status;"), ErrMalformed, "byte 18: no comma"},
		{"no type", sealNetstring("8:t=status,"), ErrMalformed, "byte 6: field without type"},
		{"type 5", sealNetstring("11:(5)t=status,"), ErrMalformed, "field type '5'"},
		{"no equals sign", sealNetstring("4:(0)t,"), ErrMalformed, "byte 6: field without ="},
		{"no name", sealNetstring("11:(0)t=status,4:(0)=,"), ErrMalformed, "byte 24: field without a name"},
		{"NUL in text", sealNetstring("6:(0)t=\x00,"), ErrMalformed, "byte 11: text contains a NUL"},
		{"two auth", sealNetstring("11:(0)t=status,8:(0)auth=,8:(0)auth=,"), ErrMalformed, "second field auth"},
		{"binary auth", sealNetstring("11:(0)t=status,8:(1)auth=,"), ErrMalformed, "authenticator is not text"},
		{"length of the trailer is wrong", bytes.Replace(status, []byte("42:"), []byte("41:"), 1), ErrMalformed, "no comma"},
		{"trailer twice", append(bytes.Clone(status), status[len(status)-46:]...), ErrMalformed, "bytes after the authenticator"},
		{"index with leading zero", bytes.Replace(status, []byte("42:1 "), []byte("43:01 "), 1), ErrMalformed, "authenticator is not"},
		{"index without blank", []byte("###\n11:(0)t=status,%%%\n1:1,"), ErrMalformed, "byte 25: authenticator is not"},
		{"no authenticator", []byte("###\n11:(0)t=status,%%%\n0:,"), ErrMalformed, "authenticator is not"},
		{"foreign key", bytes.Replace(status, []byte("42:1 "), []byte("42:9 "), 1), ErrKey, "key 9"},
		{"capital hex", bytes.ToUpper(status), ErrAuth, "compare authkeys"},
		{"short authenticator", []byte("###\n11:(0)t=status,%%%\n2:1 ,"), ErrAuth, "compare authkeys"},
		{"compressed", sealNetstring("24:(1)_compressed_payload=x,"), ErrUnsupported, "traditional_compression"},

		{"classic, no auth", []byte(">>>\nt=status\n<<<\n"), ErrMalformed, "no field auth"},
		{"classic, two auth", []byte(">>>\nt=status\nauth=1 0\nauth=1 0\n<<<\n"), ErrMalformed, "byte 22: second field auth"},
		{"classic, cut off", []byte(">>>\nt=stat"), ErrMalformed, "byte 4: line is cut off"},
		{"classic, typed text", sealClassic("(0)t=status\n"), ErrMalformed, "byte 4: field type '0'"},
		{"classic, not base64", sealClassic("t=status\n(1)u=A\n"), ErrMalformed, "byte 18: value of u is not base64"},
		{"classic, loose base64", sealClassic("t=status\n(1)u=AB==\n"), ErrMalformed, "not base64"},
		{"classic, base64 with CR", sealClassic("t=status\n(1)u=AAAA\r\n"), ErrMalformed, "not base64"},
		{"classic, empty line", sealClassic("t=status\n\n"), ErrMalformed, "byte 13: field without ="},
		{"classic, two NULs", append(sealClassic("t=status\n"), 0), ErrMalformed, "bytes after <<<"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, _, err := Decode(c.packet, allKeys)
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v and %q", err, c.is, c.says)
			}
			if m.Fields != nil {
				t.Errorf("returned %v", m)
			}
		})
	}
}

func TestOpaqueFieldsKeepTheirBytes(t *testing.T) {
	for name, p := range map[string][]byte{
		"netstring": sealNetstring("6:(0)t=x,18:(2)n=###\n4:(0)a,%%,6:(3)l=\x00,6:(4)c=\xff,"),
		"classic":   sealClassic("t=x\n(2)n=>>>\x14a=b\x14<<<\x14\n(3)l=1:a,\n(4)c=AAAA\n"),
	} {
		m, f, err := Decode(p, allKeys)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := Encode(nil, m, f, allKeys)
		if err != nil || !bytes.Equal(again, p) {
			t.Errorf("%s: %v\n got %q\nwant %q", name, err, again, p)
		}
	}
}

func TestWrongKey(t *testing.T) {
	for name, p := range variants(t) {
		wrong := Keys{Send: 1, Keys: slices.Clone(allKeys.Keys)}
		for i := range wrong.Keys {
			if wrong.Keys[i].Method != CRC {
				wrong.Keys[i].Secret = []byte("wrong")
			}
		}
		_, _, err := Decode(p, wrong)
		if strings.Contains(name, "crc") {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else if !errors.Is(err, ErrAuth) {
			t.Errorf("%s: got %v, want %v", name, err, ErrAuth)
		}
		if _, _, err := Decode(p, Keys{}); !errors.Is(err, ErrKey) {
			t.Errorf("%s: without keys: got %v, want %v", name, err, ErrKey)
		}
	}
}

// A key must be replaceable without both nodes changing at the same moment.
func TestKeyRollOver(t *testing.T) {
	old, fresh := Key{1, SHA1, []byte("old")}, Key{2, SHA256, []byte("new")}
	node := Keys{Send: 1, Keys: []Key{old, fresh}}
	peer := Keys{Send: 2, Keys: []Key{old, fresh}}
	for f := Classic; f <= Both; f++ {
		p, err := Encode(nil, New("status"), f, peer)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Decode(p, node); err != nil {
			t.Errorf("%v: %v", f, err)
		}
	}
}

// copyOf is a Clone that keeps nil.
func (m Message) copyOf() Message {
	if m.Fields == nil {
		return m
	}
	return m.Clone()
}

func FuzzDecode(f *testing.F) {
	for _, file := range captureFiles(f) {
		f.Add(captured(f, file)[0])
	}
	for _, p := range variants(f) {
		f.Add(p)
	}
	f.Add([]byte("11:(0)t=status,27:(1)srcuuid=0123456789abcdef,"))
	f.Add([]byte("t=status\n(1)u=/wo=\n(2)n=>>>\x14<<<\x14\n"))
	var decoder Decoder // one for all: what it keeps must not show
	f.Fuzz(func(t *testing.T, data []byte) {
		Resign(nil, data, allKeys) // whatever it is
		// As it is; and as the content of a packet with a right authenticator,
		// which no fuzzer finds.
		for _, p := range [][]byte{data, sealNetstring(string(data)), sealClassic(string(data))} {
			m, form, err := decoder.Decode(p, allKeys)
			m = m.copyOf()
			if err != nil {
				if m.Fields != nil {
					t.Fatalf("%v together with %v", err, m)
				}
				continue
			}
			again, err := Encode(nil, m, form, allKeys)
			if errors.Is(err, ErrField) || errors.Is(err, ErrTooLong) {
				continue // an opaque field in Both; the inner authenticator is longer
			}
			if err != nil {
				t.Fatalf("%q: %v", p, err)
			}
			m2, form2, err := Decode(again, allKeys)
			if err != nil || form2 != form {
				t.Fatalf("%q: %v, %v", again, form2, err)
			}
			// A copy of no bytes may be nil or not.
			if diff := cmp.Diff(m, m2, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("%q (-first +second)\n%s", p, diff)
			}
			anew, err := Resign(nil, p, allKeys)
			if err != nil || !bytes.Equal(anew, again) {
				t.Fatalf("%q signed anew: %q, %v", p, anew, err)
			}
		}
	})
}

func status() Message {
	m := New("status", "st", "active", "dt", "bb8", "protocol", "1", "src", "hbnode1")
	m.SetBinary("srcuuid", []byte("0123456789abcdef"))
	for _, kv := range [][2]string{{"seq", "1f"}, {"hg", "6b02bb72"}, {"ts", "6b02bbb5"}, {"ld", "0.81 0.58 0.31 2/94 26"}, {"ttl", "3"}} {
		m.Set(kv[0], kv[1])
	}
	return m
}

func TestEncodeDoesNotAllocate(t *testing.T) {
	m, buf := status(), make([]byte, 0, 2048)
	for _, k := range allKeys.Keys {
		keys := Keys{Send: k.Index, Keys: allKeys.Keys}
		for f := Classic; f <= Both; f++ {
			if n := testing.AllocsPerRun(100, func() {
				if _, err := Encode(buf[:0], m, f, keys); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%v %s: %v allocations", f, k.Method, n)
			}
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	m, buf := status(), make([]byte, 0, 2048)
	for f := Classic; f <= Both; f++ {
		b.Run(f.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Encode(buf[:0], m, f, allKeys); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for f := Classic; f <= Both; f++ {
		p, err := Encode(nil, status(), f, allKeys)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(f.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Decode(p, allKeys); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
