package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"systole/test/need"
)

// watching runs a command of the operator's until it is stopped, as Ctrl-C does.
type watching struct {
	cmd        *exec.Cmd
	out, notes *output
}

// output is a file that a process writes and a test reads meanwhile.
type output struct {
	path string
	file *os.File
}

func (p *pair) watch(name string, args ...string) *watching {
	p.t.Helper()
	file := func(kind string) *output {
		f, err := os.CreateTemp(p.t.TempDir(), kind)
		p.must(err)
		return &output{path: f.Name(), file: f}
	}
	w := &watching{cmd: exec.Command(binary, args...), out: file("out"), notes: file("notes")}
	w.cmd.Env = append(os.Environ(), "SYSTOLE_SOCKET="+filepath.Join(p.daemons[name].dir, "systole.sock"))
	w.cmd.Stdout, w.cmd.Stderr = w.out.file, w.notes.file
	p.must(w.cmd.Start())
	p.t.Cleanup(func() { _ = w.cmd.Process.Kill() })
	p.wait(args[0]+" has begun", 10*time.Second, func() bool { return strings.Contains(w.notes.String(), "Ctrl-C ends it") })
	return w
}

func (b *output) String() string {
	text, err := os.ReadFile(b.path)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// stop is Ctrl-C; it returns all that was printed.
func (p *pair) stop(w *watching) (out, notes string) {
	p.t.Helper()
	p.must(w.cmd.Process.Signal(syscall.SIGINT))
	if err := w.cmd.Wait(); err != nil {
		p.t.Errorf("%s: %v: %s", w.cmd.Args[1], err, w.notes)
	}
	return w.out.String(), w.notes.String()
}

// attached is the XDP program on a director's interface.
func (p *pair) attached(name string) int {
	p.t.Helper()
	l, err := p.daemons[name].host.Netlink().LinkByName("eth0")
	p.must(err)
	return int(l.Attrs().Xdp.ProgId)
}

// TestOperatorSeesPackets drives real requests through a director and looks at
// them with capture and trace; afterwards the director is as it was.
func TestOperatorSeesPackets(t *testing.T) {
	need.Program(t, "tcpdump")
	p, _ := tutorialPair(t)
	before := p.attached("node1")
	get := func() {
		t.Helper()
		if out, err := p.run(p.client, "curl", "-sS", "--max-time", "5", "-H", "Host: www.a.com", "http://192.168.145.101/"); err != nil {
			t.Fatalf("curl: %v: %s", err, out)
		}
	}

	file := filepath.Join(t.TempDir(), "web.pcapng")
	w := p.watch("node1", "capture", "-w", file, "--service", "192.168.145.101:80/tcp")
	if now := p.attached("node1"); now == before {
		t.Error("a capture is going on, and the program is the same")
	}
	if out, err := p.systole("node1", "capture", "-w", os.DevNull); err == nil || !strings.Contains(out, "observed already") {
		t.Errorf("a second capture: %v: %s", err, out)
	}
	get()
	p.wait("frames in the file", 5*time.Second, func() bool {
		s, err := os.Stat(file)
		return err == nil && s.Size() > 1000
	})
	if _, notes := p.stop(w); !strings.Contains(notes, "packets\n") {
		t.Errorf("capture said %q", notes)
	}
	dump, err := exec.Command("tcpdump", "-nner", file).Output()
	p.must(err)
	// The SYN as the client sent it to the director, and as it left for a server.
	director, server := p.daemons["node1"].host.MAC.String(), ""
	for line := range bytes.Lines(dump) {
		for _, s := range p.servers {
			if strings.Contains(string(line), director+" > "+s.MAC.String()) && strings.Contains(string(line), "Flags [S]") {
				server = s.Name
			}
		}
	}
	if server == "" || !strings.Contains(string(dump), p.client.MAC.String()+" > "+director) {
		t.Errorf("the SYN and its rewritten MAC are not in\n%s", dump)
	}

	w = p.watch("node1", "trace", "192.168.145.1")
	get()
	p.wait("the end of the connection", 5*time.Second, func() bool { return strings.Contains(w.out.String(), "-> FIN_WAIT") })
	out, _ := p.stop(w)
	for _, want := range []string{
		"tcp SYN ", "scheduled, flow NONE -> SYN_RECV, service 192.168.145.101:80/tcp", "flow SYN_RECV -> ESTABLISHED",
		"flow ESTABLISHED -> FIN_WAIT",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in the trace:\n%s", want, out)
		}
	}
	p.wait("the program is the director's own again", 5*time.Second, func() bool { return p.attached("node1") == before })

	for _, tt := range []struct{ args, want string }{
		{"flows --client 192.168.145.1 --service 192.168.145.101:80/tcp --state FIN_WAIT", "2 flows\n"},
		{"flows --client 192.168.145.1 --service 192.168.145.101:80/tcp --by server", "1      192.168.145.201\n"},
		{"flows --client 192.168.145.9 --count", "0\n"},
		{"stats --cpu", "\nCPU "},
	} {
		if out, err := p.systole("node1", strings.Fields(tt.args)...); err != nil || !strings.Contains(out, tt.want) {
			t.Errorf("%s: %v, no %q in\n%s", tt.args, err, tt.want, out)
		}
	}

	// Killed, too, it leaves nothing behind.
	w = p.watch("node1", "trace", "192.168.145.1")
	p.must(w.cmd.Process.Kill())
	_ = w.cmd.Wait()
	p.wait("the program is the director's own again", 5*time.Second, func() bool { return p.attached("node1") == before })
	get()
}
