package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"systole/test/netlab"
)

// lossCounters are the kernel's counters that tell why a connection hangs when
// no director is at fault.
var lossCounters = []string{
	"Tcp.InSegs", "Tcp.OutSegs", "Tcp.RetransSegs", "Tcp.EstabResets", "Tcp.OutRsts", "Ip.InDiscards", "Ip.OutDiscards",
	"TcpExt.TCPTimeouts", "TcpExt.TCPBacklogDrop", "TcpExt.TCPRcvQDrop", "TcpExt.ListenDrops", "TcpExt.TCPAbortOnMemory",
}

// traffic is what the kernel counted of the packets of each host, for the log of
// a test that has lost some: a host a line, and the queues of the processors.
func (p *pair) traffic() string {
	var b strings.Builder
	hosts := append([]*netlab.Host{p.client}, p.servers...)
	for _, n := range nodes {
		hosts = append(hosts, p.daemons[n].host)
	}
	for _, h := range hosts {
		fmt.Fprintf(&b, "%s:", h.Name)
		counters, err := countersOf(h)
		if err != nil {
			fmt.Fprintf(&b, " %v", err)
		}
		for _, name := range lossCounters {
			if n := counters[name]; n > 0 {
				fmt.Fprintf(&b, " %s=%d", name, n)
			}
		}
		err = h.Do(func() error {
			text, err := os.ReadFile("/proc/thread-self/net/dev")
			for line := range strings.Lines(string(text)) {
				if f := strings.Fields(line); len(f) == 17 && f[0] == "eth0:" {
					fmt.Fprintf(&b, " received=%s,dropped=%s sent=%s,dropped=%s", f[2], f[4], f[10], f[12])
				}
			}
			return err
		})
		if err != nil {
			fmt.Fprintf(&b, " %v", err)
		}
		b.WriteString("\n")
	}
	queues, err := os.ReadFile("/proc/net/softnet_stat")
	for line := range strings.Lines(string(queues)) {
		if f := strings.Fields(line); len(f) > 2 {
			fmt.Fprintf(&b, "processor: packets 0x%s, no place in its queue 0x%s\n", f[0], f[1])
		}
	}
	if err != nil {
		fmt.Fprintln(&b, err)
	}
	return b.String()
}

// sentAgain is how many TCP segments the client has sent again.
func (p *pair) sentAgain() (int, error) {
	counters, err := countersOf(p.client)
	return counters["Tcp.RetransSegs"], err
}

// countersOf are a host's SNMP counters, by "Protocol.Name".
func countersOf(h *netlab.Host) (map[string]int, error) {
	out := make(map[string]int)
	err := h.Do(func() error {
		for _, file := range []string{"snmp", "netstat"} {
			text, err := os.ReadFile("/proc/thread-self/net/" + file)
			if err != nil {
				return err
			}
			// Pairs of lines: the names, then the numbers.
			lines := strings.Split(string(text), "\n")
			for i := 0; i+1 < len(lines); i += 2 {
				names, numbers := strings.Fields(lines[i]), strings.Fields(lines[i+1])
				for j := 1; j < min(len(names), len(numbers)); j++ {
					n, err := strconv.Atoi(numbers[j])
					if err != nil {
						return fmt.Errorf("%s: %w", file, err)
					}
					out[strings.TrimSuffix(names[0], ":")+"."+names[j]] = n
				}
			}
		}
		return nil
	})
	return out, err
}
