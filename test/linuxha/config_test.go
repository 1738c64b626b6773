package linuxha

import (
	"net/netip"
	"testing"
	"time"
)

func TestFiles(t *testing.T) {
	c := Config{
		Nodes: []string{"node1", "node2"}, Keepalive: 100 * time.Millisecond, Deadtime: 300 * time.Millisecond, Initdead: 2 * time.Second,
		Media:        []string{"baud 19200", "serial /dev/ttyS0", "bcast eth0"},
		AutoFailback: "legacy", Netstring: true,
		Resources: map[string][]netip.Addr{
			"node2": {netip.MustParseAddr("192.0.2.3")},
			"node1": {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
		},
	}
	const cf = `logfile /var/log/ha-log
debugfile /var/log/ha-debug
keepalive 100ms
deadtime 300ms
initdead 2000ms
udpport 694
baud 19200
serial /dev/ttyS0
bcast eth0
auto_failback legacy
msgfmt netstring
node node1 node2
realtime off
coredumps off
`
	if got := c.hacf(); got != cf {
		t.Errorf("ha.cf:\n%s", got)
	}
	const resources = `node1 IPaddr2::192.0.2.1/32/eth0
node1 IPaddr2::192.0.2.2/32/eth0
node2 IPaddr2::192.0.2.3/32/eth0
`
	if got := c.haresources(); got != resources {
		t.Errorf("haresources:\n%s", got)
	}
}
