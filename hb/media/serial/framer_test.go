package serial

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// frame returns all packets that come out of a stream.
func frame(f *framer, stream []byte) (packets []string) {
	for _, c := range stream {
		if p := f.push(c); p != nil {
			packets = append(packets, string(p))
		}
	}
	return packets
}

const one, two = ">>>\nt=one\nx=>>>\n<<<\n", ">>>\nt=two\n<<<\n"

func TestFraming(t *testing.T) {
	long := strings.Repeat("x", maxPacket)
	for _, c := range []struct {
		name, stream string
		want         []string
	}{
		{"two packets", one + two, []string{one, two}},
		{"empty lines between", "\n\n" + one + "\n\n" + two, []string{one, two}},
		{"NUL as on UDP", one + "\x00" + two + "\x00", []string{one, two}},
		{"noise before", "\xff\x00noise" + one, []string{one}},
		{"lines before", "a=b\n<<<\nc=d\n" + one, []string{one}},
		{"begins in the middle", two[7:] + two, []string{two}},
		{"what looks like a begin is for Decode to refuse", one[7:] + two, []string{">>>\n<<<\n", two}},
		{"cut off, then a new line", one[:10] + "\n" + two, []string{two}},
		{"cut off after a line", ">>>\nt=x\n" + two, []string{two}},
		{"damaged end", ">>>\nt=x\n<<\x80\n" + two, []string{two}},
		{"damaged begin", ">>\x80\nt=x\n<<<\n" + two, []string{two}},
		{"end without begin", "<<<\n<<<\n" + two, []string{two}},
		{"not at the beginning of the line", ">>>\nx=<<<\n <<<\n<<<\n", []string{">>>\nx=<<<\n <<<\n<<<\n"}},
		{"carriage returns", ">>>\r\nt=x\r\n<<<\r\n" + two, []string{two}},
		{"endless line", long + long + two, []string{two}},
		{"endless line in a packet", ">>>\n" + long + "\n<<<\n" + two, []string{two}},
		{"endless packet", ">>>\n" + strings.Repeat("a=b\n", maxPacket/4) + "<<<\n" + two, []string{two}},
		{"begins again and again", strings.Repeat(">>>\n", 1000) + "t=x\n<<<\n", []string{">>>\nt=x\n<<<\n"}},
	} {
		got := frame(new(framer), []byte(c.stream))
		if len(got) != len(c.want) || strings.Join(got, "|") != strings.Join(c.want, "|") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestLongestPacket(t *testing.T) {
	p := ">>>\n" + strings.Repeat("x", maxPacket-len(">>>\n\n<<<\n")) + "\n<<<\n"
	if got := frame(new(framer), []byte(p)); len(p) != maxPacket || len(got) != 1 || got[0] != p {
		t.Errorf("%d packets of one of %d bytes", len(got), len(p))
	}
}

// Whatever came before, a packet on a line of its own is found, and it is all
// that noise between packets may cost: nothing.
func FuzzFraming(f *testing.F) {
	f.Add([]byte(one), []byte("noise"))
	f.Add([]byte(">>>\nt=x\n<<"), []byte{0})
	f.Add([]byte(">>>"), []byte("\n>>"))
	f.Fuzz(func(t *testing.T, noise, more []byte) {
		fr := new(framer)
		for _, p := range frame(fr, noise) {
			if !strings.HasPrefix(p, ">>>\n") || !strings.HasSuffix(p, "\n<<<\n") || strings.Contains(p, "\n>>>\n") || strings.Contains(p[:len(p)-5], "\n<<<\n") {
				t.Fatalf("%q is no packet", p)
			}
		}
		if n := cap(fr.packet) + cap(fr.line); n > 4*maxPacket {
			t.Fatalf("%d bytes held", n)
		}
		got := frame(fr, []byte("\n"+one))
		if len(got) == 0 || got[len(got)-1] != one {
			t.Fatalf("after %q: %q", noise, got)
		}
		if bytes.Contains(more, []byte("\n")) {
			return
		}
		if got := frame(fr, append(more, one...)); len(got) != 1 || got[0] != one {
			t.Fatalf("after %q between packets: %q", more, got)
		}
	})
}

// A byte that is lost or turned costs the packet it is in, and at most the one
// before or after it.
func TestOneFaultCostsLittle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		for i := range 6 {
			stream = append(stream, ">>>\nt=x\nn="+string(rune('0'+i))+"\n<<<\n"...)
		}
		at := rapid.IntRange(0, len(stream)-1).Draw(t, "at")
		if rapid.Bool().Draw(t, "lost") {
			stream = append(stream[:at], stream[at+1:]...)
		} else {
			stream[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "turned"))
		}
		intact := 0
		for _, p := range frame(new(framer), stream) {
			if len(p) == len(">>>\nt=x\nn=0\n<<<\n") {
				intact++
			}
		}
		if intact < 4 {
			t.Fatalf("%d of 6 packets left of %q", intact, stream)
		}
	})
}
