package linuxha

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"systole/test/netlab"
)

// Config is what goes into /etc/ha.d.
type Config struct {
	Nodes []string // the whole cluster, by the names of its hosts

	// Keepalive, Deadtime and Initdead are written as whole milliseconds.
	Keepalive, Deadtime, Initdead time.Duration

	Media        []string // the lines of ha.cf for them, such as "ucast eth0 192.168.145.10"
	AutoFailback string   // "on", "off" or "legacy"
	Netstring    bool     // msgfmt netstring: no inner authenticator (heartbeat-wire.md section 2.3)

	// Resources are the addresses of the group of each node, by the preferred
	// node; all on the host's one interface.
	Resources map[string][]netip.Addr

	Authkeys string // the whole file
}

// hacf is the file ha.cf. Realtime is off as it is for Systole, unless
// told otherwise: on a machine of few cores one would starve the other.
func (c Config) hacf() string {
	format := map[bool]string{true: "netstring", false: "classic"}[c.Netstring]
	return fmt.Sprintf(`logfile /var/log/ha-log
debugfile /var/log/ha-debug
keepalive %dms
deadtime %dms
initdead %dms
udpport 694
%s
auto_failback %s
msgfmt %s
node %s
realtime off
coredumps off
`, c.Keepalive.Milliseconds(), c.Deadtime.Milliseconds(), c.Initdead.Milliseconds(),
		strings.Join(c.Media, "\n"), c.AutoFailback, format, strings.Join(c.Nodes, " "))
}

// haresources is the file of that name: a line for each address.
func (c Config) haresources() string {
	var b strings.Builder
	for _, n := range c.Nodes {
		for _, a := range c.Resources[n] {
			fmt.Fprintf(&b, "%s IPaddr2::%s/32/%s\n", n, a, netlab.NIC)
		}
	}
	return b.String()
}
