package serial

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"systole/hb/media"
	"systole/hb/media/mediatest"
	"systole/hb/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var keys = wire.Keys{Send: 1, Keys: []wire.Key{{Index: 1, Method: wire.SHA1, Secret: []byte("secret")}}}

func packet(t testing.TB, f wire.Format, m wire.Message) []byte {
	t.Helper()
	p, err := wire.Encode(nil, m, f, keys)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		spec media.Spec
		says string
	}{
		{"no device", media.Spec{}, `device "" is not a path`},
		{"relative", media.Spec{Device: "ttyS0"}, `device "ttyS0" is not a path such as /dev/ttyS0`},
		{"rate", media.Spec{Device: "/dev/ttyS0", Baud: 1200}, "baud 1200 is none of [9600 19200"},
		{"odd rate", media.Spec{Device: "/dev/ttyS0", Baud: 19201}, "baud 19201 is none of"},
		{"interface", media.Spec{Device: "/dev/ttyS0", Interface: "lo"}, "interface means nothing"},
		{"port", media.Spec{Device: "/dev/ttyS0", Port: 694}, "port means nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := media.Open("serial", c.spec)
			if !errors.Is(err, media.ErrSpec) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v and %q", err, media.ErrSpec, c.says)
			}
			if m != nil {
				m.Close()
			}
		})
	}
}

// openSerial opens a medium at the highest rate, so that tests need not wait.
func openSerial(t *testing.T, device string) *medium {
	t.Helper()
	m, err := media.Open("serial", media.Spec{Device: device, Baud: 460800})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m.(*medium)
}

// Section 1: the classic text, whatever form the others get, and no NUL.
func TestExchange(t *testing.T) {
	devA, devB, _ := mediatest.NullModem(t)
	a, b := openSerial(t, devA), openSerial(t, devB)
	if a.Name() != "serial "+devA {
		t.Errorf("name %q", a.Name())
	}
	msg := wire.New("status", "src", "a", "info", "two\nlines")
	msg.Fields = append(msg.Fields, wire.Field{Name: "srcuuid", Type: wire.Binary, Value: []byte("\x00\n<<<\n\x11\x13>>>\n\xff")})
	text := packet(t, wire.Classic, msg)
	text = text[:len(text)-1]
	buf := make([]byte, 64<<10)
	for _, f := range []wire.Format{wire.Both, wire.Classic} {
		for _, way := range []struct{ from, to *medium }{{a, b}, {b, a}} {
			if err := way.from.Send(packet(t, f, msg)); err != nil {
				t.Fatal(err)
			}
			n, err := way.to.Receive(buf)
			if err != nil || !bytes.Equal(buf[:n], text) {
				t.Fatalf("%v: got %q, %v", f, buf[:n], err)
			}
			if _, _, err := wire.Decode(buf[:n], keys); err != nil {
				t.Errorf("%v: %v", f, err)
			}
		}
	}
	if err := a.Send(packet(t, wire.Netstring, msg)); !errors.Is(err, wire.ErrUnsupported) {
		t.Errorf("netstring: %v", err)
	}
	want := media.Stats{Sent: 2, Received: 2, Failed: 1}
	for end := time.Now().Add(5 * time.Second); a.Stats() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) { // the writer counts after it has written
			t.Fatalf("got %+v, want %+v", a.Stats(), want)
		}
	}
}

func TestEveryRateOpens(t *testing.T) {
	for _, baud := range Rates {
		_, device := mediatest.Pty(t)
		m, err := media.Open("serial", media.Spec{Device: device, Baud: baud})
		if err != nil {
			t.Fatal(err)
		}
		if why := m.(*medium).conn.Err(); why != nil {
			t.Errorf("%d: %v", baud, why)
		}
		m.Close()
	}
}

// The highest rate there is: packets leave as fast as such a line carries them
// and no faster, and noise between them costs none.
func TestHighestRateWithNoise(t *testing.T) {
	masterA, devA := mediatest.Pty(t)
	masterB, devB := mediatest.Pty(t)
	a, b := openSerial(t, devA), openSerial(t, devB)
	relayed := make(chan struct{})
	go func() { // the cable, which adds noise to the end of each packet
		defer close(relayed)
		rnd := rand.New(rand.NewPCG(1, 2))
		in := bufio.NewReader(masterA)
		for {
			line, err := in.ReadBytes('\n')
			if err != nil {
				return
			}
			if bytes.Equal(line, end) {
				for range rnd.IntN(300) {
					if c := byte(rnd.Uint32()); c != '\n' {
						line = append(line, c)
					}
				}
			}
			if _, err := masterB.Write(line); err != nil {
				return
			}
		}
	}()
	defer func() { masterA.Close(); <-relayed }()
	const n = 100
	start, size := time.Now(), 0
	for i := range n {
		p := packet(t, wire.Classic, wire.New("status", "src", "a", "n", strconv.Itoa(i), "pad", strings.Repeat("x", 200)))
		size += len(p) - 1 // without the NUL
		if err := a.Send(p); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 1000)
	for i := range n {
		k, err := b.Receive(buf)
		if err != nil {
			t.Fatal(err)
		}
		m, _, err := wire.Decode(buf[:k], keys)
		if err != nil {
			t.Fatalf("packet %d: %v: %q", i, err, buf[:k])
		}
		if got, _ := m.Get("n"); got != strconv.Itoa(i) {
			t.Fatalf("packet %d: %q", i, got)
		}
	}
	took, least := time.Since(start), time.Duration(size)*10*time.Second/460800
	t.Logf("%d packets, %d bytes in %v; the line needs %v", n, size, took.Round(time.Millisecond), least.Round(time.Millisecond))
	if took < least*9/10 || took > 10*least {
		t.Errorf("%d bytes took %v, the line would need %v", size, took, least)
	}
	if s := a.Stats(); s.Dropped != 0 || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
}

// Raw: no byte is changed, echoed or taken for a command on its way.
func TestEveryByteArrives(t *testing.T) {
	master, device := mediatest.Pty(t)
	m := openSerial(t, device)
	var all []byte
	for c := range 256 {
		if c != '\n' {
			all = append(all, byte(c))
		}
	}
	want := ">>>\nx=" + string(all) + "\n<<<\n"
	if _, err := master.Write([]byte("noise" + want)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1000)
	if n, err := m.Receive(buf); err != nil || string(buf[:n]) != want {
		t.Errorf("%q, %v", buf[:n], err)
	}
}

// The other end does not read: everything that can be full is, and Send does
// not wait. What comes out when it reads again is the newest.
func TestSendNeverWaits(t *testing.T) {
	master, device := mediatest.Pty(t)
	m := openSerial(t, device)
	const n = 2000
	start := time.Now()
	for i := range n {
		if err := m.Send(packet(t, wire.Both, wire.New("status", "src", "a", "n", string(rune('a'+i%26)), "pad", strings.Repeat("x", 300)))); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	last := wire.New("last", "src", "a")
	if err := m.Send(packet(t, wire.Both, last)); err != nil {
		t.Fatal(err)
	}
	if s := m.Stats(); s.Dropped < n/2 || s.Failed != 0 {
		t.Errorf("%+v", s)
	}
	var f framer
	buf := make([]byte, 4096)
	master.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		k, err := master.Read(buf)
		if err != nil {
			t.Fatalf("the last packet does not come: %v", err)
		}
		for _, p := range frame(&f, buf[:k]) {
			got, _, err := wire.Decode([]byte(p), keys)
			if err != nil {
				t.Fatalf("%v: %q", err, p)
			}
			if got.Type() == "last" {
				return
			}
		}
	}
}

func TestCloseEndsAWriteThatWaits(t *testing.T) {
	_, device := mediatest.Pty(t)
	m := openSerial(t, device)
	for range 100 {
		if err := m.Send(packet(t, wire.Both, wire.New("status", "src", "a", "pad", strings.Repeat("x", 1000)))); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	for _, err := range []error{m.Close(), m.Send(nil)} {
		if err != media.ErrClosed {
			t.Errorf("afterwards: %v", err)
		}
	}
	if _, err := m.Receive(nil); err != media.ErrClosed {
		t.Errorf("Receive: %v", err)
	}
}

func TestTooLongForTheLine(t *testing.T) {
	_, device := mediatest.Pty(t)
	m, err := media.Open("serial", media.Spec{Device: device})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	err = m.Send(packet(t, wire.Both, wire.New("x", "pad", strings.Repeat("x", 3000))))
	if err == nil || !strings.Contains(err.Error(), "and the line carries 1920 a second") {
		t.Errorf("%v", err)
	}
	if s := m.Stats(); s != (media.Stats{Failed: 1}) {
		t.Errorf("%+v", s)
	}
}

// A device that is not there, is something else, goes away and comes again.
func TestDeviceGoesAndComes(t *testing.T) {
	device := filepath.Join(t.TempDir(), "tty")
	m := openSerial(t, device)
	got := mediatest.Listen(m)
	beat := packet(t, wire.Both, wire.New("status", "src", "a"))
	if err := m.Send(beat); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("Send: %v", err)
	}
	mediatest.Until(t, got, false, func() {})
	if err := os.WriteFile(device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for err := error(nil); err == nil || !strings.Contains(err.Error(), "set up "+device); {
		err = mediatest.Until(t, got, false, func() {})
	}
	for round := range 3 {
		master, pts := mediatest.Pty(t)
		os.Remove(device)
		if err := os.Symlink(pts, device); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		mediatest.Until(t, got, true, func() { io.WriteString(master, one) })
		if d := time.Since(start); d > media.MaxBackoff+2*time.Second {
			t.Errorf("round %d: back after %v", round, d)
		}
		if err := m.Send(beat); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		for len(got) > 0 {
			<-got
		}
		master.Close()
		if err := mediatest.Until(t, got, false, func() {}); !strings.HasPrefix(err.Error(), "serial "+device) {
			t.Errorf("round %d: %v", round, err)
		}
		if err := m.Send(beat); err == nil {
			t.Errorf("round %d: sends though hung up", round)
		}
	}
}

// What Receive waits for, a packet or the next attempt, ends with Close.
func TestCloseEndsWaiting(t *testing.T) {
	_, device := mediatest.Pty(t)
	for _, path := range []string{device, "/dev/absent-serial"} {
		m := openSerial(t, path)
		got := mediatest.Listen(m)
		time.Sleep(20 * time.Millisecond) // likely, but not needed: it waits by now
		m.Close()
		timeout := time.After(5 * time.Second)
		for open := true; open; {
			select {
			case _, open = <-got:
			case <-timeout:
				t.Fatalf("%s: Receive does not return", path)
			}
		}
	}
}
