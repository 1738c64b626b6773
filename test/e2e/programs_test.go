package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"systole/control/client"
	"systole/hb/media/mediatest"
)

// stream is what `systole listen` prints.
type stream struct {
	t      *testing.T
	events chan client.Event
}

// listen starts `systole listen --json` and returns when it hears.
func (p *pair) listen(name string, args ...string) stream {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, binary, append([]string{"listen", "--json"}, args...)...)
	cmd.Env = append(os.Environ(), "SYSTOLE_SOCKET="+filepath.Join(p.daemons[name].dir, "systole.sock"))
	out, err := cmd.StdoutPipe()
	p.must(err)
	p.must(cmd.Start())
	s := stream{p.t, make(chan client.Event, 10000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(s.events)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var e client.Event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				p.t.Errorf("%s: %v", lines.Text(), err)
				return
			}
			s.events <- e
		}
	}()
	p.t.Cleanup(func() {
		cancel()
		<-done
		_ = cmd.Wait()
	})
	if e := s.next(); e.Kind != client.KindStart || e.Node != name {
		p.t.Fatalf("the first event is %+v", e)
	}
	return s
}

func (s stream) next() client.Event {
	s.t.Helper()
	select {
	case e, ok := <-s.events:
		if !ok {
			s.t.Fatal("systole listen has ended")
		}
		return e
	case <-time.After(20 * time.Second):
		s.t.Fatal("nothing was heard")
	}
	return client.Event{}
}

// A shell on one director sends 1,000 lines from a pipe, a shell on the other
// prints them in order, and the first too; and a redundant link that is cut is
// an event at once, though the other link works.
func TestProgramsOnBothDirectors(t *testing.T) {
	needRoot(t)
	tty := make(map[string]string)
	tty["node1"], tty["node2"], _ = mediatest.NullModem(t)
	p := newPair(t, 1, fmt.Sprintf("  - {virtual: '%s:80', check: {type: none}, servers: [{address: 192.168.145.200}]}", vip), func(p *pair) {
		for _, name := range nodes {
			p.replace(name, "  media:\n", fmt.Sprintf("  media:\n    - {type: serial, device: %s, baud: 115200}\n", tty[name]))
			p.replace(name, fmt.Sprintf("deadtime: %v", deadtime), "deadtime: 1s") // as the cable is slow
		}
	})
	far, near := p.listen("node2", "--type", "app.line"), p.listen("node1", "--type", "app.line")
	const n = 1000
	begin := time.Now()
	pipe := exec.Command("sh", "-c", fmt.Sprintf("seq 1 %d | %s send app.line from=shell --stdin", n, binary))
	pipe.Env = append(os.Environ(), "SYSTOLE_SOCKET="+filepath.Join(p.daemons["node1"].dir, "systole.sock"))
	out, err := pipe.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "app.line: 1000 messages were sent, ") {
		t.Fatalf("%v: %s", err, out)
	}
	for _, s := range []stream{far, near} {
		for i := 1; i <= n; i++ {
			e := s.next()
			if e.Kind != client.KindMessage || e.Node != "node1" || e.Fields["text"] != fmt.Sprint(i) || e.Fields["from"] != "shell" {
				t.Fatalf("message %d is %+v", i, e)
			}
		}
	}
	t.Logf("%d messages from a pipe in %v: %s", n, time.Since(begin).Round(time.Millisecond), out)

	// For one node alone: the sender does not hear it.
	only := p.listen("node1", "--type", "app.only")
	if out, err := p.systole("node2", "send", "app.only", "--dest", "node1", "a=1"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if e := only.next(); e.Node != "node2" || e.Dest != "node1" || e.Fields["a"] != "1" {
		t.Errorf("%+v", e)
	}
	if out, err := p.systole("node1", "send", "resource", "rsc_hold=all"); err == nil || !strings.Contains(out, "belongs to the heartbeat protocol") {
		t.Errorf("%v: %s", err, out)
	}

	links := p.listen("node1", "--kind", "link")
	for range 2 {
		if e := links.next(); !e.Snapshot || e.State != "up" {
			t.Errorf("%+v", e)
		}
	}
	cut := time.Now()
	p.must(p.daemons["node2"].host.Cut())
	for {
		e := links.next()
		if e.Node == "node2" && e.State == "dead" {
			if !strings.HasPrefix(e.Medium, "ucast") {
				t.Errorf("%+v", e)
			}
			break
		}
	}
	if took := time.Since(cut); took > 3*time.Second {
		t.Errorf("told of after %v", took)
	} else {
		t.Logf("the cut was told of after %v", took.Round(time.Millisecond))
	}
	p.must(p.daemons["node2"].host.Plug())
	p.wait("status tells of the failure and the repair", 5*time.Second, func() bool {
		for _, nd := range p.status("node1").Nodes {
			for _, l := range nd.Links {
				if strings.HasPrefix(l.Medium, "ucast") && nd.Name == "node2" {
					return l.State == "up" && l.Failures == 1
				}
			}
		}
		return false
	})
}
