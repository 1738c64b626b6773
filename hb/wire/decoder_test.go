package wire

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDecoderIsDecode: memory that is used again leaves no trace in what comes
// next, whatever came before: long and short, right and wrong packets.
func TestDecoderIsDecode(t *testing.T) {
	var packets [][]byte
	for _, file := range captureFiles(t)[:2] {
		packets = append(packets, captured(t, file)...)
	}
	for _, p := range variants(t) {
		packets = append(packets, p, p[:len(p)/2], append(bytes.Clone(p), 'x'))
	}
	long := New("x", "unheard-of", string(bytes.Repeat([]byte("long "), 20_000)))
	p, err := Encode(nil, long, Both, captureKeys)
	if err != nil {
		t.Fatal(err)
	}
	packets = append([][]byte{p}, packets...)

	var d Decoder
	for _, k := range []Keys{captureKeys, allKeys} {
		for round := range 2 {
			for i, p := range packets {
				want, wantForm, wantErr := Decode(p, k)
				got, form, err := d.Decode(p, k)
				if fmt.Sprint(err) != fmt.Sprint(wantErr) || form != wantForm {
					t.Fatalf("round %d, packet %d: %v %v, want %v %v", round, i, form, err, wantForm, wantErr)
				}
				if diff := cmp.Diff(want, got); err == nil && diff != "" {
					t.Fatalf("round %d, packet %d (-Decode +Decoder):\n%s", round, i, diff)
				}
				if key := d.Key(); (key.Method == "") != (err != nil) && !errors.Is(err, ErrMalformed) {
					t.Fatalf("round %d, packet %d: key %v, error %v", round, i, key, err)
				}
			}
		}
	}
}

// TestDecoderAllocatesNothing, nor does Encode, in any form with any method.
func TestDecoderAllocatesNothing(t *testing.T) {
	m := New("status", "st", "up", "systole", "1", "of-our-own", "text\nlines")
	m.SetBinary("srcuuid", []byte("sixteen bytes---"))
	m.SetBinary("seen", make([]byte, 40))
	for _, k := range allKeys.Keys {
		for f := Classic; f <= Both; f++ {
			keys := Keys{Send: k.Index, Keys: allKeys.Keys}
			p, err := Encode(nil, m, f, keys)
			if err != nil {
				t.Fatal(err)
			}
			room := make([]byte, 0, 2*len(p)+1000)
			var d Decoder
			if n := testing.AllocsPerRun(100, func() {
				if _, _, err := d.Decode(p, keys); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%v %s: %v allocations to decode", f, k.Method, n)
			}
			if n := testing.AllocsPerRun(100, func() {
				if _, err := Encode(room, m, f, keys); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%v %s: %v allocations to encode", f, k.Method, n)
			}
		}
	}
}

func BenchmarkDecoder(b *testing.B) {
	for name, p := range variants(b) {
		b.Run(name, func(b *testing.B) {
			var d Decoder
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := d.Decode(p, allKeys); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestResign: other keys and other values, the same form and order, and it is
// what Encode would have made.
func TestResign(t *testing.T) {
	for f := Classic; f <= Both; f++ {
		m := New("status", "st", "up", "info", "two\nlines")
		m.SetBinary("seen", []byte{0})
		p, err := Encode(nil, m, f, allKeys)
		if err != nil {
			t.Fatal(err)
		}
		next := Keys{Send: 9, Keys: []Key{{9, SHA256, []byte("nine")}}}
		got, err := Resign([]byte("before"), p, next, Field{"seen", Binary, []byte("12345678")}, Field{"more", String, []byte("1")})
		if err != nil {
			t.Fatal(err)
		}
		m.SetBinary("seen", []byte("12345678"))
		m.Set("more", "1")
		want, err := Encode([]byte("before"), m, f, next)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%v:\n got %q\nwant %q", f, got, want)
		}
		if got, err := Resign([]byte("before"), p[:len(p)/2], next); !errors.Is(err, ErrMalformed) || string(got) != "before" {
			t.Errorf("%v, half a packet: %q, %v", f, got, err)
		}
		if got, err := Resign([]byte("before"), p, captureKeys.without(1)); !errors.Is(err, ErrKey) || string(got) != "before" {
			t.Errorf("%v, no key: %q, %v", f, got, err)
		}
	}
}

func (k Keys) without(index int) Keys {
	var left []Key
	for _, key := range k.Keys {
		if key.Index != index {
			left = append(left, key)
		}
	}
	return Keys{Send: k.Send, Keys: left}
}
