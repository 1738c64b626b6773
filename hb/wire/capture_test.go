package wire

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// captureKeys are the authkeys of the two nodes in the captures.
var captureKeys = Keys{Send: 1, Keys: []Key{{1, SHA1, []byte("hbstudykey")}}}

// captured returns the heartbeat packets of one capture file.
func captured(tb testing.TB, file string) (packets [][]byte) {
	tb.Helper()
	f, err := os.Open(file)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		tb.Fatalf("%s: %v", file, err)
	}
	for {
		data, _, err := r.ReadPacketData()
		if err == io.EOF {
			break
		}
		if err != nil {
			tb.Fatalf("%s: %v", file, err)
		}
		p := gopacket.NewPacket(data, r.LinkType(), gopacket.Default)
		if udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP); ok && udp.DstPort == 694 {
			packets = append(packets, udp.Payload)
		}
	}
	if len(packets) == 0 {
		tb.Fatalf("%s: no heartbeat packets", file)
	}
	return packets
}

func captureFiles(tb testing.TB) []string {
	tb.Helper()
	files, err := filepath.Glob("testdata/captures/*.pcap")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no captures: %v", err)
	}
	return files
}

func TestCapturesDecodeVerifyAndEncodeToTheSameBytes(t *testing.T) {
	formats, types, total := map[Format]int{}, map[string]int{}, 0
	for _, file := range captureFiles(t) {
		for i, p := range captured(t, file) {
			m, f, err := Decode(p, captureKeys)
			if err != nil {
				t.Fatalf("%s: packet %d: %v\n%q", file, i, err, p)
			}
			again, err := Encode(nil, m, f, captureKeys)
			if err != nil {
				t.Fatalf("%s: packet %d: %v", file, i, err)
			}
			if !bytes.Equal(again, p) {
				t.Fatalf("%s: packet %d:\n got %q\nwant %q", file, i, again, p)
			}
			checkByHand(t, p, m, f)
			formats[f]++
			types[m.Type()]++
			total++
		}
	}
	if diff := cmp.Diff(map[Format]int{Both: 495, Netstring: 68}, formats); diff != "" {
		t.Errorf("forms seen (-want +got):\n%s", diff)
	}
	want := []string{
		"NS_ackmsg", "NS_rexmit", "ask_resources", "hb_takeover", "ip-request", "ip-request-resp", "repnodes", "reqnodes",
		"resource", "shutdone", "starting", "status", "stonith",
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(types))); diff != "" {
		t.Errorf("message types seen (-want +got):\n%s", diff)
	}
	t.Logf("%d packets", total)
}

var trailer = regexp.MustCompile(`^(?s)(.*%%%\n)42:1 ([0-9a-f]{40}),$`)
var innerAuth = regexp.MustCompile(`(?s)50:\(0\)auth=1 ([0-9a-f]{40}),%%%\n`)

// checkByHand verifies both authenticators of p from section 3 and nothing
// else: no code of this package takes part, but for the list of fields.
func checkByHand(t *testing.T, p []byte, m Message, f Format) {
	t.Helper()
	sign := func(text []byte) string {
		h := hmac.New(sha1.New, []byte("hbstudykey"))
		h.Write(text)
		return hex.EncodeToString(h.Sum(nil))
	}
	part := trailer.FindSubmatch(p)
	if part == nil {
		t.Fatalf("no trailer: %q", p)
	}
	if got, want := sign(part[1]), string(part[2]); got != want {
		t.Fatalf("trailer: got %s, want %s", got, want)
	}
	inner := innerAuth.FindSubmatch(p)
	if (inner != nil) != (f == Both) {
		t.Fatalf("form %v of %q", f, p)
	}
	if inner == nil {
		return
	}
	var text bytes.Buffer
	for _, fld := range m.Fields {
		switch fld.Type {
		case String:
			fmt.Fprintf(&text, "%s=%s\n", fld.Name, fld.Value)
		case Binary:
			fmt.Fprintf(&text, "(1)%s=%s\n", fld.Name, base64.StdEncoding.EncodeToString(fld.Value))
		default:
			t.Fatalf("type %d in a capture", fld.Type)
		}
	}
	if got, want := sign(text.Bytes()), string(inner[1]); got != want {
		t.Fatalf("inner authenticator: got %s, want %s", got, want)
	}
}

// variants returns one message in each form and with each method.
func variants(tb testing.TB) map[string][]byte {
	tb.Helper()
	m := New("status", "st", "up", "dt", "1388", "info", "two\nlines")
	m.SetBinary("srcuuid", []byte("\x00\n,=binary\xff\xfe\x13\x01\x02\x03"))
	out := map[string][]byte{}
	for _, k := range allKeys.Keys {
		for f := Classic; f <= Both; f++ {
			keys := Keys{Send: k.Index, Keys: allKeys.Keys}
			p, err := Encode(nil, m, f, keys)
			if err != nil {
				tb.Fatal(err)
			}
			out[fmt.Sprintf("%v %s", f, k.Method)] = p
		}
	}
	return out
}

var allKeys = Keys{Send: 1, Keys: []Key{
	{0, CRC, nil},
	{1, SHA1, []byte("one")},
	{2, MD5, []byte("two")},
	{15, SHA256, []byte("fifteen")},
}}

func TestEveryFlippedBitAndEveryTruncationIsRefused(t *testing.T) {
	packets := variants(t)
	for _, file := range []string{"failback-on-startup", "netstring-startup"} {
		for i, p := range captured(t, "testdata/captures/"+file+".pcap")[:6] {
			packets[fmt.Sprintf("%s %d", file, i)] = p
		}
	}
	keys := Keys{Keys: slices.Concat(allKeys.Keys[:1], captureKeys.Keys)}
	for name, p := range packets {
		k := keys
		if _, _, err := Decode(p, k); errors.Is(err, ErrKey) || errors.Is(err, ErrAuth) {
			k = allKeys
		}
		if _, _, err := Decode(p, k); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		bad := bytes.Clone(p)
		for i := range bad {
			for bit := range 8 {
				bad[i] ^= 1 << bit
				if m, _, err := Decode(bad, k); err == nil {
					t.Fatalf("%s: bit %d of byte %d flipped, accepted as %v", name, bit, i, m)
				} else if !errors.Is(err, ErrAuth) && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrKey) {
					t.Fatalf("%s: bit %d of byte %d flipped: %v", name, bit, i, err)
				}
				bad[i] ^= 1 << bit
			}
		}
		for n := range p {
			_, f, err := Decode(p[:n], k)
			if err == nil && f == Classic && n == len(p)-1 && p[n] == 0 {
				continue // a serial line carries no NUL
			}
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("%s: first %d of %d bytes: %v", name, n, len(p), err)
			}
		}
		for _, tail := range []string{"\x00", "\n", ",", "x"} {
			if _, _, err := Decode(append(bytes.Clone(p), tail...), k); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%s: with %q at the end: %v", name, tail, err)
			}
		}
	}
}
