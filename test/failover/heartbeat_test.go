package failover

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"systole/test/linuxha"
)

// initdead is as for the others: no peer is expected.
const initdead = 2 * time.Second

// heartbeat is a pair of the real ones: auto_failback off, one group, which
// prefers node 0. It has no data plane and forwards nothing: the names are
// served by the nodes themselves.
type heartbeat struct {
	*lab
	machine [2]*linuxha.Machine
	asked   time.Time // when cl_status was, last
	served  int       // what owner made of that
}

func newHeartbeat(l *lab, t timing) *heartbeat {
	l.Helper()
	linuxha.Need(l)
	h := &heartbeat{lab: l}
	l.Cleanup(func() {
		if l.Failed() {
			l.Logf("the end of the logs:\n%s", h.tail())
		}
	})
	cfg := linuxha.Config{
		Keepalive: t.keepalive, Deadtime: t.deadtime, Initdead: initdead, AutoFailback: "off",
		Resources: map[string][]netip.Addr{l.nodes[0].Name: {vip}},
		Authkeys:  "auth 1\n1 sha1 failover-secret\n",
	}
	for _, n := range l.nodes {
		cfg.Nodes = append(cfg.Nodes, n.Name)
		cfg.Media = append(cfg.Media, fmt.Sprintf("ucast eth0 %s", n.Addr.Addr())) // its own does no harm
	}
	for i, n := range l.nodes {
		l.serve(n)
		h.machine[i] = linuxha.New(l, l.Lab, n, cfg) // by way of l: it changes its TB
	}
	return h
}

func (h *heartbeat) start(i int) {
	h.Helper()
	h.machine[i].Start()
}

func (h *heartbeat) running(i int) bool { return h.machine[i].Running() }

func (h *heartbeat) kill(i int) {
	h.Helper()
	h.machine[i].Kill()
}

// reboot takes the address away that a killed daemon has left.
func (h *heartbeat) reboot(i int) {
	h.Helper()
	h.machine[i].Forget(vip)
}

// standby does not wait for the tool, so that the event begins when that does.
func (h *heartbeat) standby(i int) {
	h.Helper()
	_, err := h.machine[i].Spawn(context.Background(), io.Discard, linuxha.Tools+"/hb_standby", "all")
	h.must(err)
}

// owner asks addresses first and both daemons then, by a tool that costs
// much: not more often than it takes to see a change in time.
func (h *heartbeat) owner() int {
	h.Helper()
	has := [2]bool{h.machine[0].Holds(vip), h.machine[1].Holds(vip)}
	if has[0] == has[1] {
		h.asked = time.Time{}
		return -1
	}
	if time.Since(h.asked) < 100*time.Millisecond {
		return h.served
	}
	h.served = -1
	// Each in its own words; node 1 says local of no group, when that is settled.
	switch h.machine[0].Status("rscstatus") + " " + h.machine[1].Status("rscstatus") {
	case "all none", "local local":
		if has[0] {
			h.served = 0
		}
	case "none all", "foreign foreign":
		if has[1] {
			h.served = 1
		}
	}
	h.asked = time.Now()
	return h.served
}

// tail is the end of both logs.
func (h *heartbeat) tail() string {
	var out strings.Builder
	for i, m := range h.machine {
		if m == nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(m.Log(0)), "\n")
		fmt.Fprintf(&out, "--- %s\n%s\n", h.nodes[i].Name, strings.Join(lines[max(0, len(lines)-25):], "\n"))
	}
	return out.String()
}
