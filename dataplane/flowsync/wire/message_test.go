package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
)

// captured are the datagrams of a file in testdata, in hex, one a line.
func captured(t testing.TB, name string) [][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		b, err := hex.DecodeString(line)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// What a kernel sent is understood, and written the same way.
func TestKernelMessages(t *testing.T) {
	all := captured(t, "master-6.1.hex")
	if len(all) == 0 {
		t.Fatal("no message in the capture")
	}
	for _, data := range all {
		var m Message
		if err := Decode(data, &m); err != nil {
			t.Fatal(err)
		}
		if m.SyncID != 7 || len(m.Entries) != 13 || len(m.Trailer) != 0 {
			t.Errorf("sync id %d, %d connections, %d bytes after them", m.SyncID, len(m.Entries), len(m.Trailer))
		}
		for i, e := range m.Entries {
			if e.VIP.Addr() != netip.MustParseAddr("192.168.145.101") || e.Protocol != 6 && e.Protocol != 17 || e.Flags&ForwardMask != ForwardGate || e.Flags&NoOutput == 0 {
				t.Errorf("connection %d: %+v", i, e)
			}
			t.Logf("%v %v -> %v state %d flags %#x timeout %d s", e.Client, e.VIP, e.Server, e.State, e.Flags, e.Timeout)
		}
		if again := m.Append(nil); !bytes.Equal(again, data) {
			t.Errorf("written again it differs:\n%x\n%x", again, data)
		}
	}
}

func entry4() Entry {
	return Entry{
		Protocol: 6, Flags: ForwardGate | NoOutput, State: 1, Mark: 7, Timeout: 900,
		Client: netip.MustParseAddrPort("192.0.2.9:40000"), VIP: netip.MustParseAddrPort("192.0.2.1:80"), Server: netip.MustParseAddrPort("192.0.2.2:8080"),
	}
}

func entry6() Entry {
	e := entry4()
	e.Client, e.VIP, e.Server = netip.MustParseAddrPort("[2001:db8::9]:40000"), netip.MustParseAddrPort("[2001:db8::1]:80"), netip.MustParseAddrPort("[2001:db8::2]:80")
	return e
}

func TestRoundTrip(t *testing.T) {
	with := entry4()
	with.Options = []Option{{OptionPEName, []byte("sip")}, {OptionSkip | 9, []byte{1}}}
	for _, m := range []Message{
		{},
		{SyncID: 255, Entries: []Entry{entry4()}},
		{SyncID: 1, Entries: []Entry{entry6(), with, entry4(), entry6()}, Trailer: []byte("anything")},
	} {
		data := m.Append(make([]byte, 0, 4))
		if len(data)%4 != 0 {
			t.Errorf("%d bytes", len(data))
		}
		var got Message
		if err := Decode(data, &got); err != nil {
			t.Fatal(err)
		}
		if got.SyncID != m.SyncID || len(got.Entries) != len(m.Entries) || !bytes.Equal(got.Trailer, m.Trailer) {
			t.Errorf("%+v became %+v", m, got)
		}
		for i := range m.Entries {
			if !reflect.DeepEqual(got.Entries[i], m.Entries[i]) {
				t.Errorf("%+v became %+v", m.Entries[i], got.Entries[i])
			}
		}
	}
}

func TestUnknownOptions(t *testing.T) {
	e := entry4()
	e.Options = []Option{{OptionSeq, make([]byte, 24)}, {OptionSkip | 5, []byte{1}}}
	if o, bad := e.Unknown(); bad {
		t.Errorf("option %d may be skipped", o.Type)
	}
	e.Options = append(e.Options, Option{4, []byte{1}})
	if o, bad := e.Unknown(); !bad || o.Type != 4 {
		t.Errorf("%+v %v, want option 4", o, bad)
	}
}

// Each fault has its place.
func TestMalformed(t *testing.T) {
	m := Message{SyncID: 1, Entries: []Entry{entry4(), entry6()}}
	m.Entries[1].Options = []Option{{OptionSkip, []byte{1, 2}}}
	good := m.Append(nil)
	change := func(at int, b ...byte) []byte {
		out := bytes.Clone(good)
		copy(out[at:], b)
		return out
	}
	second := HeaderSize + EntrySize4
	for _, tt := range []struct {
		name string
		data []byte
		err  error
		at   int // -1: not said
	}{
		{"nothing", nil, ErrMalformed, 0},
		{"half a header", good[:7], ErrMalformed, 7},
		{"version 0", change(0, 2), ErrVersion, -1},
		{"version 2", change(5, 2), ErrVersion, -1},
		{"spare", change(7, 1), ErrVersion, -1},
		{"cut short", good[:len(good)-1], ErrMalformed, 2},
		{"one byte more", append(bytes.Clone(good), 0), ErrMalformed, 2},
		{"a third connection", change(4, 3), ErrMalformed, len(good)},
		{"type", change(second, 2), ErrMalformed, second},
		{"entry version", change(second+2, 0x10), ErrMalformed, second + 2},
		{"size too small", change(second+3, 71), ErrMalformed, second + 2},
		{"size too large", change(second+2, 0x0f), ErrMalformed, second + 2},
		{"option without length", change(second+3, 73), ErrMalformed, second + EntrySize6},
		{"empty option", change(second+EntrySize6+1, 0), ErrMalformed, second + EntrySize6 + 1},
		{"option too long", change(second+EntrySize6+1, 3), ErrMalformed, second + EntrySize6 + 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var m Message
			err := Decode(tt.data, &m)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if tt.at >= 0 && !strings.Contains(err.Error(), fmt.Sprintf("byte %d:", tt.at)) {
				t.Errorf("%v: want byte %d", err, tt.at)
			}
			if len(m.Entries) != 0 {
				t.Errorf("%d connections of a bad message", len(m.Entries))
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, data := range captured(f, "master-6.1.hex") {
		f.Add(data)
	}
	m := Message{SyncID: 1, Entries: []Entry{entry6(), entry4()}, Trailer: []byte{1}}
	m.Entries[0].Options = []Option{{OptionPEName, []byte("sip")}}
	f.Add(m.Append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m, again Message
		if err := Decode(data, &m); err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrVersion) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		if err := Decode(m.Append(nil), &again); err != nil {
			t.Fatalf("what was decoded cannot be decoded again: %v", err)
		}
		if len(m.Entries) != len(again.Entries) || m.SyncID != again.SyncID || !bytes.Equal(m.Trailer, again.Trailer) {
			t.Fatalf("%+v became %+v", m, again)
		}
		for i := range m.Entries {
			if !reflect.DeepEqual(m.Entries[i], again.Entries[i]) {
				t.Fatalf("%+v became %+v", m.Entries[i], again.Entries[i])
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	var m Message
	for range 38 {
		m.Entries = append(m.Entries, entry4())
	}
	data := m.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if err := Decode(data, &m); err != nil {
			b.Fatal(err)
		}
	}
}
