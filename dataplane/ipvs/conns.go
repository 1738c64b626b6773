package ipvs

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"systole/dataplane"
)

// Connection is one entry of the kernel's connection table, as
// /proc/net/ip_vs_conn has it. An entry whose client has port 0 is no
// connection but a template: what persistence remembers of a client.
type Connection struct {
	Protocol string         `json:"protocol"` // "TCP", "UDP", "SCTP"; "IP" of templates of firewall marks
	Client   netip.AddrPort `json:"client"`
	Virtual  netip.AddrPort `json:"virtual"` // where the client sends to; 0.0.0.7:0 of templates of mark 7
	Server   netip.AddrPort `json:"server"`
	State    string         `json:"state"` // the kernel's name for it, such as "ESTABLISHED"
	Expires  time.Duration  `json:"expires_ns"`
	// Engine and EngineData are of templates that a persistence engine made.
	Engine     string `json:"engine,omitempty"`
	EngineData string `json:"engine_data,omitempty"`
}

// template tells an entry of persistence from a connection.
func (c *Connection) template() bool { return c.Client.Port() == 0 }

// errLine wraps what is wrong with a line of the kernel's list.
var errLine = errors.New("unreadable line of the IPVS connections")

// parseConnection reads a line of /proc/net/ip_vs_conn: protocol; address and
// port of client, virtual service and server, in hexadecimal; state; seconds
// left; and maybe the persistence engine and what it found.
func parseConnection(line string) (Connection, error) {
	f := strings.Fields(line)
	if len(f) < 9 {
		return Connection{}, fmt.Errorf("%w: %d fields in %q", errLine, len(f), line)
	}
	c := Connection{Protocol: f[0], State: f[7]}
	for i, to := range []*netip.AddrPort{&c.Client, &c.Virtual, &c.Server} {
		addr, err := hexAddr(f[1+2*i])
		if err != nil {
			return Connection{}, fmt.Errorf("%w: %w in %q", errLine, err, line)
		}
		port, err := strconv.ParseUint(f[2+2*i], 16, 16)
		if err != nil {
			return Connection{}, fmt.Errorf("%w: port %w in %q", errLine, err, line)
		}
		*to = netip.AddrPortFrom(addr, uint16(port))
	}
	seconds, err := strconv.ParseUint(f[8], 10, 32)
	if err != nil {
		return Connection{}, fmt.Errorf("%w: seconds %w in %q", errLine, err, line)
	}
	c.Expires = time.Duration(seconds) * time.Second
	if len(f) > 10 {
		c.Engine, c.EngineData = f[9], strings.Join(f[10:], " ")
	}
	return c, nil
}

// hexAddr reads "C0A89165", or IPv6 with all its digits and colons.
func hexAddr(s string) (netip.Addr, error) {
	if strings.Contains(s, ":") {
		a, err := netip.ParseAddr(s)
		if err == nil && (!a.Is6() || a.Zone() != "") {
			err = fmt.Errorf("address %q", s)
		}
		return a, err
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 4 {
		return netip.Addr{}, fmt.Errorf("address %q", s)
	}
	return netip.AddrFrom4([4]byte(b)), nil
}

// parseConnections reads the whole list; it ends after the first error.
func parseConnections(r io.Reader) iter.Seq2[Connection, error] {
	return func(yield func(Connection, error) bool) {
		lines := bufio.NewScanner(r)
		for first := true; lines.Scan(); first = false {
			if first {
				continue // the heading
			}
			c, err := parseConnection(lines.Text())
			if !yield(c, err) || err != nil {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(Connection{}, fmt.Errorf("reading the IPVS connections: %w", err))
		}
	}
}

// Connections are the entries of the kernel's connection table, of all
// services, persistence's templates included. The kernel gives them in pieces
// while packets come: one that moves meanwhile may be missed or come twice.
// After an error nothing follows.
func (p *Plane) Connections() iter.Seq2[Connection, error] {
	return func(yield func(Connection, error) bool) {
		var f io.ReadCloser
		err := p.with(func() (err error) {
			f, err = p.kernel.connections()
			return err
		})
		if err != nil {
			yield(Connection{}, fmt.Errorf("the IPVS connections: %w", err))
			return
		}
		defer f.Close()
		parseConnections(f)(yield)
	}
}

// Flows are the connections of our services. The kernel does not say which
// service a connection belongs to: it is that of its address and port, else
// that of all ports of the address, else the one of a firewall mark if only one
// of the family is there. What goes wrong is logged, and ends the list.
func (p *Plane) Flows() iter.Seq[dataplane.Flow] { return p.list(false) }

// FlowsAndTemplates are the Flows, and among them the templates of persistent
// clients (FlowTemplate): those that the kernel calls assured, whose clients are
// no flood of SYNs. Templates of firewall marks and of persistence engines are
// left out: no flow table has such.
func (p *Plane) FlowsAndTemplates() iter.Seq[dataplane.Flow] { return p.list(true) }

func (p *Plane) list(templates bool) iter.Seq[dataplane.Flow] {
	return func(yield func(dataplane.Flow) bool) {
		owner, timeouts, err := p.owners()
		if err != nil {
			p.log.Warn("ipvs: connections not listed", "why", err)
			return
		}
		for c, err := range p.Connections() {
			if err != nil {
				p.log.Warn("ipvs: connections not listed to the end", "why", err)
				return
			}
			if c.template() && !templates {
				continue
			}
			if f, ok := flowOf(&c, owner, timeouts); ok && !yield(f) {
				return
			}
		}
	}
}

// owners are the services of the kernel's table, and whether they are ours.
func (p *Plane) owners() (owner map[dataplane.ServiceKey]bool, timeouts dataplane.Timeouts, err error) {
	owner = make(map[dataplane.ServiceKey]bool)
	err = p.with(func() error {
		all, err := p.kernel.services()
		if err != nil {
			return fmt.Errorf("reading the IPVS table: %w", err)
		}
		for i := range all {
			owner[all[i].Key] = p.ours[all[i].Key]
		}
		timeouts, err = p.kernel.timeouts()
		return err
	})
	return owner, timeouts, err
}

// serviceFor is the service that a connection belongs to.
func serviceFor(k dataplane.ServiceKey, owner map[dataplane.ServiceKey]bool) (dataplane.ServiceKey, bool) {
	if ours, ok := owner[k]; ok {
		return k, ours
	}
	k.Port = 0
	if ours, ok := owner[k]; ok {
		return k, ours
	}
	var marks []dataplane.ServiceKey
	for o := range owner {
		if o.Mark != 0 && o.VIP.BitLen() == k.VIP.BitLen() {
			marks = append(marks, o)
		}
	}
	if len(marks) != 1 {
		return dataplane.ServiceKey{}, false
	}
	return marks[0], owner[marks[0]]
}

var protocols = map[string]dataplane.Protocol{"TCP": dataplane.TCP, "UDP": dataplane.UDP, "SCTP": dataplane.SCTP}

// assured is the kernel's state of a template with a connection that was
// established (IP_VS_CTPL_S_ASSURED, ip_vs.h).
const assured = "ASSURED"

// flowOf is a connection in the planes' common terms, if it is one of ours.
func flowOf(c *Connection, owner map[dataplane.ServiceKey]bool, t dataplane.Timeouts) (dataplane.Flow, bool) {
	protocol, ok := protocols[c.Protocol]
	if !ok || c.template() && (c.State != assured || c.Engine != "") {
		return dataplane.Flow{}, false
	}
	key := dataplane.ServiceKey{VIP: c.Virtual.Addr(), Port: c.Virtual.Port(), Protocol: protocol}
	key, ours := serviceFor(key, owner)
	if !ours {
		return dataplane.Flow{}, false
	}
	if c.template() {
		return dataplane.Flow{
			Client: c.Client, Service: key, Server: c.Server.Addr(), State: dataplane.FlowTemplate, Expires: c.Expires,
		}, key.Mark == 0 // a mark's has no protocol
	}
	f := dataplane.Flow{
		Client: c.Client, Service: key, Port: c.Virtual.Port(), Server: c.Server.Addr(),
		State: flowState(protocol, c.State), Expires: c.Expires,
	}
	// The kernel says when it will forget a connection, not when it last saw
	// it: the difference is known where the timeout is.
	if whole := wholeLife(c.State, protocol, t); whole > c.Expires {
		f.Age = whole - c.Expires
	}
	return f, true
}

// flowState is the life of a connection as a plane that sees the client's half
// alone tells it. The states are those of the kernel's ip_vs_proto_tcp.c and
// ip_vs_proto_sctp.c.
func flowState(p dataplane.Protocol, state string) dataplane.FlowState {
	switch {
	case p == dataplane.UDP:
		return dataplane.FlowUDP
	case state == "ESTABLISHED":
		return dataplane.FlowEstablished
	}
	switch state {
	case "FIN_WAIT", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK",
		"S-SENT", "S-RECEIVED", "S-ACK-SENT", "REJECTED", "CLOSED":
		return dataplane.FlowFin
	}
	return dataplane.FlowSyn
}

// wholeLife is the timeout of a state; 0 where it is not told here.
func wholeLife(state string, p dataplane.Protocol, t dataplane.Timeouts) time.Duration {
	switch {
	case p == dataplane.UDP:
		return t.UDP
	case p == dataplane.SCTP:
		return 0
	}
	switch state {
	case "ESTABLISHED":
		return t.TCP
	case "FIN_WAIT":
		return t.TCPFin
	case "SYN_RECV", "CLOSE_WAIT":
		return time.Minute
	}
	return 0
}

// ConnectionOf is a flow of another plane in the kernel's words.
func ConnectionOf(f dataplane.Flow) Connection {
	state := f.State.String()
	if f.Service.Protocol == dataplane.SCTP {
		switch f.State {
		case dataplane.FlowSyn:
			state = "INIT1"
		case dataplane.FlowFin:
			state = "S-RECEIVED"
		}
	}
	return Connection{
		Protocol: strings.ToUpper(f.Service.Protocol.String()), Client: f.Client,
		Virtual: netip.AddrPortFrom(f.Service.VIP, f.Port), Server: netip.AddrPortFrom(f.Server, f.Port),
		State: state, Expires: f.Expires,
	}
}
