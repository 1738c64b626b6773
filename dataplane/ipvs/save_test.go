package ipvs

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func save(t interface{ Fatal(...any) }, services []Service) string {
	var b bytes.Buffer
	if err := Save(&b, Table{Services: services}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// What ipvsadm-save 1.31 wrote is understood and written again, byte for byte.
func TestSave(t *testing.T) {
	in := file(t, "forms.save")
	services, err := ParseSave(strings.NewReader("# a comment\n\n" + in))
	if err != nil {
		t.Fatal(err)
	}
	if got := save(t, services); got != in {
		t.Errorf("got\n%swant\n%s", got, in)
	}
}

// Any table we can make is read back the same, thresholds included.
func TestSaveProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawService(t)
		services := []Service{serviceOf(&d)}
		back, err := ParseSave(strings.NewReader(save(t, services)))
		if err != nil {
			t.Fatalf("%v in\n%s", err, save(t, services))
		}
		if got, want := text(back), text(services); got != want {
			t.Fatalf("\n got %s\nwant %s", got, want)
		}
	})
}

// What lines do not say is as ipvsadm has it; long names are known.
func TestParseSaveDefaults(t *testing.T) {
	services, err := ParseSave(strings.NewReader(`
--add-service --tcp-service 192.0.2.1:80
-A -f 7 -p -o
	-a  -t 192.0.2.1:80   --real-server 192.0.2.2:80
-a -f 7 -r 192.0.2.3:0 --masquerading --weight 0 --u-threshold 9
`))
	if err != nil {
		t.Fatal(err)
	}
	want := `-A -t 192.0.2.1:80 -s wlc
-a -t 192.0.2.1:80 -r 192.0.2.2:80 -g -w 1
-A -f 7 -s wlc -p 360 -o
-a -f 7 -r 192.0.2.3:0 -m -w 0 -x 9
`
	if got := save(t, services); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestParseSaveBad(t *testing.T) {
	const svc, srv = "-A -t 192.0.2.1:80 -s rr", "-a -t 192.0.2.1:80 -r 192.0.2.2:80 -g -w 1"
	for _, c := range []struct{ in, want string }{
		{"-A -t 192.0.2.1:80 -s", "1:20: -s needs a value"},
		{"-A -t www:http -s rr", `1:7: "www:http" is not ADDRESS:PORT in numbers, such as 192.0.2.101:80 or [2001:db8::1]:80 (ipvsadm-save -n writes them)`},
		{"-A -t 192.0.2.1 -s rr", `1:7: "192.0.2.1" is not ADDRESS:PORT`},
		{"-A -t [fe80::1%eth0]:1 -s rr", `1:7: "[fe80::1%eth0]:1" is not ADDRESS:PORT`},
		{"-A -s rr", "1:1: a line names one service"},
		{"-A -t 192.0.2.1:80 -f 7", "1:1: a line names one service"},
		{"-t 192.0.2.1:80 -s rr", "1:1: a line is either -A, a service, or -a, a server of one"},
		{"-A -a -t 192.0.2.1:80", "1:1: a line is either"},
		{"-A -t 192.0.2.1:80 -t 192.0.2.1:80", "1:20: -t is there twice"},
		{"-E -t 192.0.2.1:80 -s rr", `1:1: "-E" is no option of a saved table`},
		{"-A -t 192.0.2.1:80 -s a-name-of-scheduler", `1:23: "a-name-of-scheduler" is no name`},
		{"-A -t 192.0.2.1:80 -s rr -b sh-port", `1:29: scheduler rr has no flag "sh-port"`},
		{"-A -t 192.0.2.1:80 -s rr -o", "1:26: -o is for -u and -f"},
		{"-A -t 192.0.2.1:0 -s rr", "1:1: IPVS serves port 0, all ports, with persistence (-p) only"},
		{"-A -t 192.0.2.1:80 -s rr -p 0", `1:29: "0" is not a number from 1 to 2678400`},
		{"-A -t 192.0.2.1:80 -s rr -M 255.0.0.0", "1:29: -M goes with -p only"},
		{"-A -t 192.0.2.1:80 -s rr -p 9 -M 255.0.255.0", `1:34: "255.0.255.0" is not a netmask`},
		{"-A -t 192.0.2.1:80 -s rr -p 9 -M 0.0.0.0", `1:34: "0.0.0.0" is not a netmask`},
		{"-A -t [2001:db8::1]:80 -s rr -p 9 -M 129", `1:38: "129" is not a number from 1 to 128`},
		{"-A -t 192.0.2.1:80 -s rr -p 9 --pe a-persistence-engine", `1:36: "a-persistence-engine" is no name`},
		{"-A -t 192.0.2.1:80 -6", "-6 goes with -f only"},
		{"-A -f 0 -s rr", `1:7: "0" is not a number from 1 to 4294967295`},
		{"-A -t 192.0.2.1:80 -w 7", "1:23: -w has no place on this line"},
		{svc + "\n" + svc, "2:7: the service 192.0.2.1:80/tcp is there twice"},
		{srv, "1:7: the service 192.0.2.1:80/tcp is not there: its -A line must come first"},
		{svc + "\n" + srv + "\n" + srv, "3:23: the server 192.0.2.2:80 is there twice"},
		{svc + "\n-a -t 192.0.2.1:80", "2:1: a server needs its address: -r"},
		{svc + "\n" + srv + " -s rr", "2:47: -s has no place on this line"},
		{svc + "\n" + srv + " -m", "2:23: a server is reached in one way"},
		{svc + "\n-a -t 192.0.2.1:80 -r 192.0.2.2:80 -w -1", `2:39: "-1" is not a number from 0 to 2147483647`},
		{svc + "\n" + srv + " -x 1 -y 2", "2:52: the lower threshold is above the upper one"},
		{svc + "\n" + srv + " --tun-type ipip", "2:23: only a server with -i has a tunnel"},
		{svc + "\n-a -t 192.0.2.1:80 -r 192.0.2.2:80 -i --tun-type gue", "2:23: --tun-port goes with --tun-type gue"},
		{svc + "\n-a -t 192.0.2.1:80 -r 192.0.2.2:80 -i --tun-port 9", "2:23: --tun-port goes with --tun-type gue"},
		{svc + "\n-a -t 192.0.2.1:80 -r 192.0.2.2:80 -i --tun-type vxlan", `2:50: "vxlan" is no tunnel`},
		{svc + "\n-a -t 192.0.2.1:80 -r 192.0.2.2:80 -i --tun-type gue --tun-port 0", `2:65: "0" is not a number from 1 to 65535`},
		{svc + "\n-a -t 192.0.2.1:80 -r 192.0.2.2:80 -i --tun-csum", "2:39: ipip has no checksums"},
		{svc + "\n-a -t 192.0.2.1:80 -r 192.0.2.2:80 -i --tun-type gre --tun-csum --tun-nocsum", "one of --tun-nocsum, --tun-csum"},
		{strings.Repeat("x", 1<<20), "a saved table: "},
	} {
		got, err := ParseSave(strings.NewReader(c.in))
		if err == nil || !strings.Contains(err.Error(), c.want) || got != nil {
			t.Errorf("%.80q:\n got %v\nwant %s", c.in, err, c.want)
		}
	}
}

// Every bad line is named, not the first alone.
func TestParseSaveAllErrors(t *testing.T) {
	_, err := ParseSave(strings.NewReader("-A\n-A -t 192.0.2.1:80\n-X\n"))
	want := "1:1: a line names one service, by -t, -u, --sctp-service or -f\n3:1: \"-X\" is no option of a saved table"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	var s *SyntaxError
	if !errors.As(err, &s) || s.Line != 1 || s.Col != 1 {
		t.Errorf("%+v", s)
	}
}

// FuzzParseSave: what is accepted is written so that it reads the same, and an
// error names a place in the text.
func FuzzParseSave(f *testing.F) {
	f.Add("-A -t 192.0.2.1:80 -s rr -p 9 -M 255.0.0.0 --pe sip\n-a -t 192.0.2.1:80 -r 192.0.2.2:80 -i --tun-type gue --tun-port 6080 --tun-csum -x 9 -y 3\n")
	f.Add("-A -f 9 -6 -s mh -b mh-port,flag-3 -o\n-a -f 9 -6 -r [2001:db8::1]:0 -m -w 2147483647\n# x\n")
	f.Add("-A --sctp-service [2001:db8::1]:0 -p -M 128")
	f.Fuzz(func(t *testing.T, in string) {
		services, err := ParseSave(strings.NewReader(in))
		if err != nil {
			var several interface{ Unwrap() []error }
			if !errors.As(err, &several) || services != nil {
				t.Fatalf("%v, %v", services, err)
			}
			for _, e := range several.Unwrap() {
				var s *SyntaxError
				if errors.As(e, &s) && (s.Line < 1 || s.Line > 1+strings.Count(in, "\n") || s.Col < 1) {
					t.Fatalf("%q: %v", in, s)
				}
			}
			return
		}
		out := save(t, services)
		again, err := ParseSave(strings.NewReader(out))
		if err != nil || text(again) != text(services) {
			t.Fatalf("%q was written as %q: %v", in, out, err)
		}
	})
}

func TestWriteConfig(t *testing.T) {
	in := `-A -t 192.0.2.1:80 -s rr
-a -t 192.0.2.1:80 -r 192.0.2.2:80 -g -w 1 -x 100 -y 50
-a -t 192.0.2.1:80 -r 192.0.2.3:8080 -m -w 0
-A -u 192.0.2.1:0 -s sh -p 600 -M 255.255.255.0 -b sh-port
-a -u 192.0.2.1:0 -r 192.0.2.2:0 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum
-A -t [2001:db8::1]:443 -s mh -p 90 -M 64
-a -t [2001:db8::1]:443 -r 192.0.2.2:443 -i -w 1 --tun-type ipip
-A -f 7 -s wrr -o
-a -f 7 -r 192.0.2.2:0 -g -w 1
-a -f 7 -r 192.0.2.3:0 -m -w 1
`
	want := `# These must be the vips of a group: 192.0.2.1, 2001:db8::1
services:
  - virtual: '192.0.2.1:80'
    protocol: tcp
    scheduler: rr
    check: {type: tcp}
    servers:
      - {address: '192.0.2.2', weight: 1, upper: 100, lower: 50}
      - {address: '192.0.2.3', weight: 0, forward: masq, port: 8080}
  - virtual: '192.0.2.1:*'
    protocol: udp
    scheduler: sh
    scheduler_flags: [sh-port]
    persistent: {timeout: 10m0s, netmask: 255.255.255.0}
    check: {type: none} # say how to tell that a server is well
    servers:
      - {address: '192.0.2.2', weight: 1, forward: gue, tunnel_port: 6080}
  - virtual: '[2001:db8::1]:443'
    protocol: tcp
    scheduler: mh
    persistent: {timeout: 1m30s, netmask: 64}
    check: {type: tcp}
    servers:
      - {address: '192.0.2.2', weight: 1, forward: ipip}
  - fwmark: 7
    scheduler: wrr
    one_packet: true
    check: {type: none} # say how to tell that a server is well
    servers:
      - {address: '192.0.2.2', weight: 1}
      - {address: '192.0.2.3', weight: 1, forward: masq}
`
	services, err := ParseSave(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := WriteConfig(&b, services); err != nil || b.String() != want {
		t.Errorf("%v, got\n%swant\n%s", err, &b, want)
	}
}

// What the config has no words for is said, of every service, and nothing is
// written.
func TestWriteConfigRefuses(t *testing.T) {
	const svc, srv = "-A -t 192.0.2.1:80 -s rr", "-a -t 192.0.2.1:80 -r 192.0.2.2:80 "
	for in, want := range map[string]string{
		"-A -u 192.0.2.1:5060 -s rr -p 9 --pe sip\n-a -u 192.0.2.1:5060 -r 192.0.2.2:5060": `service 192.0.2.1:5060/udp: persistence engine "sip"`,
		svc:                                    "no real server",
		svc + "\n" + srv + "-i --tun-type gre": "tunnel gre",
		svc + "\n" + srv + "-i --tun-type gue --tun-port 9 --tun-csum":      "without checksums only",
		svc + "\n-a -t 192.0.2.1:80 -r 192.0.2.2:81 -g":                     "no meaning but with -m",
		svc + "\n" + srv + "-m\n-a -t 192.0.2.1:80 -r 192.0.2.2:81 -m -w 1": "once in a service",
	} {
		services, err := ParseSave(strings.NewReader(in))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		good := "-A -f 7\n-a -f 7 -r 192.0.2.3:0"
		more, _ := ParseSave(strings.NewReader(good))
		err = WriteConfig(&b, append(more, services...))
		if err == nil || !strings.Contains(err.Error(), want) || b.Len() > 0 {
			t.Errorf("%s:\n%v, %d bytes, want %s", in, err, b.Len(), want)
		}
	}
	if err := WriteConfig(full{}, []Service{serviceOfMark7()}); err == nil {
		t.Error("a write error was lost")
	}
}

func serviceOfMark7() Service {
	services, err := ParseSave(strings.NewReader("-A -f 7\n-a -f 7 -r 192.0.2.3:0"))
	if err != nil || len(services) != 1 {
		panic(fmt.Sprint(services, err))
	}
	return services[0]
}
