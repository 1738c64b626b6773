package config

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var cmpAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func edit(t *testing.T, s string, edits ...string) string {
	t.Helper()
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(s, edits[i]) {
			t.Fatalf("nothing to edit: %q", edits[i])
		}
		s = strings.Replace(s, edits[i], edits[i+1], 1)
	}
	return s
}

func mustParse(t *testing.T, s string) *Config {
	t.Helper()
	c, err := Parse("test.yaml", []byte(s), "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// faults parses what must not be accepted and returns its errors without the
// name of the file.
func faults(t *testing.T, s string) []string {
	t.Helper()
	c, err := Parse("bad.yaml", []byte(s), "")
	if err == nil || c != nil {
		t.Fatalf("accepted: %v, %v", c, err)
	}
	var errs Errors
	if !errors.As(err, &errs) || !errors.Is(err, ErrInvalid) {
		t.Fatalf("a %T, not Errors", err)
	}
	var lines []string
	for _, line := range strings.Split(err.Error(), "\n") {
		rest, ok := strings.CutPrefix(line, "bad.yaml:")
		if !ok {
			t.Errorf("no file name: %s", line)
		}
		lines = append(lines, rest)
	}
	return lines
}

func TestBad(t *testing.T) {
	mustParse(t, base)
	for _, c := range bad {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, faults(t, edit(t, base, c.edits...))); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, c := range badWhole {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, faults(t, c.file)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTenFaultsAtOnce(t *testing.T) {
	got := faults(t, `dataplane: {interface: eth0, mode: fast, flows: 1000}
cluster:
  keepalive: 5
  deadtime: 1s
  warntime: 2s
  nodes: [node1, node2]
  medium: []
groups:
  - {name: web, preferred: node9, vips: [{address: 192.0.2.101/40, interface: eth0}]}
services:
  - virtual: 192.0.2.101:80
    scheduler: wrrr
    servers: [{address: 192.0.2.200, weight: -1}]
metrics: {listen: "9101"}
node: node1
`)
	want := []string{
		`1:36: mode: want auto, native, generic or ipvs, found "fast"`,
		`1:49: flows: 1000 is out of range: want 1024 to 16777216`,
		`3:14: keepalive: 5 has no unit: write 5s for seconds, 5ms for milliseconds`,
		`5:13: warntime 2s must be less than deadtime 1s: half of it, 500ms, is usual`,
		`7:3: unknown key "medium" in cluster: did you mean "media"?`,
		`9:28: preferred: "node9" is not among cluster.nodes (node1, node2)`,
		`9:52: address: the prefix length "40" of 192.0.2.101 is not 1 to 32: write 192.0.2.101/32`,
		`12:16: scheduler: want rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh or twos, found "wrrr": did you mean "wrr"?`,
		`13:46: weight: -1 is out of range: want 0 to 65535`,
		`14:19: listen: "9101" is not host:port: write one such as 127.0.0.1:9101`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDefaults(t *testing.T) {
	got := mustParse(t, `
node: node1
cluster: {nodes: [node1]}
groups: [{name: web, vips: [{address: 192.0.2.101, interface: eth0}]}]
services:
  - virtual: 192.0.2.101:80
    servers: [{address: 192.0.2.200}, {address: 192.0.2.201, check: {type: http}}]
    fallback: {address: 192.0.2.202}
dataplane: {interface: eth1}
`)
	vip := netip.MustParseAddr("192.0.2.101")
	tcp := Check{Type: "tcp", Port: 80, Interval: 2 * time.Second, Timeout: time.Second, Rise: 1, Fall: 1}
	http := tcp
	http.Type, http.Path, http.Method = "http", "/", "GET"
	want := &Config{
		File: "test.yaml",
		Node: "node1",
		Cluster: Cluster{
			Name: "systole", Keepalive: time.Second, Deadtime: 10 * time.Second, Warntime: 5 * time.Second,
			Initdead: 20 * time.Second, Suspicion: true, AutoFailback: true, Partition: AtLeastOne, Autojoin: "none", DeadPing: 10 * time.Second, Quorum: Quorum{Kind: "none"}, Authkeys: "/etc/systole/authkeys",
			StateDir: "/var/lib/systole", Nodes: []string{"node1"},
		},
		Groups: []Group{{Name: "web", Preferred: "node1", VIPs: []VIP{{Addr: vip, PrefixLen: 32, Interface: "eth0"}}}},
		Services: []Service{{
			VIP: vip, Port: 80, Protocol: "tcp", Scheduler: "rr", Lost: "reset", Check: tcp,
			Servers: []Server{
				{Addr: netip.MustParseAddr("192.0.2.200"), Weight: 1, Forward: "gate"},
				{Addr: netip.MustParseAddr("192.0.2.201"), Weight: 1, Forward: "gate", Check: &http},
			},
			Fallback: &Server{Addr: netip.MustParseAddr("192.0.2.202"), Weight: 1, Forward: "gate"},
		}},
		DataPlane: DataPlane{Interface: "eth1", Mode: "auto", Pin: "/sys/fs/bpf/systole", Flows: 1 << 20},
		Control:   Control{Socket: "/run/systole/systole.sock"},
	}
	if diff := cmp.Diff(want, got, cmpAddr); diff != "" {
		t.Error(diff)
	}
}

func TestDefaultsOfMedia(t *testing.T) {
	got := mustParse(t, edit(t, base, ucastMedium, "{type: bcast, interface: eth0}\n    - {type: mcast, interface: eth1}\n    - {type: serial, device: /dev/ttyS0}")).Cluster.Media
	want := []Medium{
		{Type: "bcast", Interface: "eth0", Port: 694},
		{Type: "mcast", Interface: "eth1", Port: 694, Group: netip.MustParseAddr("225.0.0.1"), TTL: 1},
		{Type: "serial", Device: "/dev/ttyS0", Baud: 19200},
	}
	if diff := cmp.Diff(want, got, cmpAddr); diff != "" {
		t.Error(diff)
	}
}

func TestDirectorAddr(t *testing.T) {
	addresses := []string{"  media:", "  addresses: {node1: 192.0.2.11, node2: 192.0.2.12}\n  media:"}
	for _, c := range []struct {
		name  string
		edits []string
		want  string // of node2; "" is unknown
	}{
		{"of the medium on the LAN", nil, "192.0.2.2"},
		{"written", addresses, "192.0.2.12"},
		{"medium elsewhere", []string{"dataplane: {interface: eth0}", "dataplane: {interface: eth1}"}, ""},
		{"medium elsewhere, written", append(addresses, "dataplane: {interface: eth0}", "dataplane: {interface: eth1}"), "192.0.2.12"},
		{"medium over IPv6", []string{"192.0.2.1,", "'2001:db8::1',", "192.0.2.2}", "'2001:db8::2'}"}, ""},
		{"medium over IPv6, and one over IPv4", []string{"  media:", "  media:\n    - {type: ucast, interface: eth0, peers: {node1: 'fe80::1', node2: 'fe80::2'}}"}, "192.0.2.2"},
		{"medium without addresses", []string{ucastMedium, "{type: mcast, interface: eth0}"}, ""},
	} {
		cfg := mustParse(t, edit(t, base, c.edits...))
		a, ok := cfg.DirectorAddr("node2")
		if ok != (c.want != "") || ok && a.String() != c.want || ok == (len(cfg.WithoutAddr()) > 0) {
			t.Errorf("%s: %v, %v, without %v; want %q", c.name, a, ok, cfg.WithoutAddr(), c.want)
		}
	}
}

func TestDerivedTimers(t *testing.T) {
	for _, c := range []struct{ deadtime, warntime, initdead string }{
		{"3s", "1.5s", "12s"},
		{"5.999s", "2.9995s", "12s"},
		{"6s", "3s", "12s"},
		{"10s", "5s", "20s"},
		{"10.001s", "5.0005s", "10.001s"},
		{"30s", "15s", "30s"},
	} {
		cl := mustParse(t, edit(t, base, "deadtime: 10s", "deadtime: "+c.deadtime)).Cluster
		if cl.Warntime.String() != c.warntime || cl.Initdead.String() != c.initdead {
			t.Errorf("deadtime %s: warntime %s, initdead %s; want %s, %s",
				c.deadtime, cl.Warntime, cl.Initdead, c.warntime, c.initdead)
		}
	}
}

func TestServerCheckTakesTheRestFromTheService(t *testing.T) {
	c := mustParse(t, edit(t, base,
		"check: {type: http, path: /ok, expect: ok}", "check: {type: http, path: /ok, expect: ok, interval: 4s, timeout: 3s, fall: 3}",
		"weight: 2", "check: {port: 8080, interval: 2s}",
		"192.0.2.200", "192.0.2.200\n        check: {type: tcp}",
		"dataplane:", "      - {address: 192.0.2.203, check: {type: none}}\ndataplane:")).Services[0]
	want := []Check{
		{Type: "tcp", Port: 80, Interval: 4 * time.Second, Timeout: 3 * time.Second, Rise: 1, Fall: 3},
		{Type: "http", Port: 8080, Interval: 2 * time.Second, Timeout: time.Second, Rise: 1, Fall: 3, Path: "/ok", Method: "GET", Expect: "ok"},
		{Type: "none", Port: 80, Interval: 4 * time.Second, Timeout: 3 * time.Second, Rise: 1, Fall: 3},
	}
	for i, w := range want {
		if got := *c.Servers[i].Check; got != w {
			t.Errorf("server %d: %+v, want %+v", i, got, w)
		}
	}
}

func TestAliases(t *testing.T) {
	c := mustParse(t, edit(t, base,
		"check: {type", "check: &web {type",
		"dataplane:", "  - {virtual: '192.0.2.101:81', check: *web, servers: [{address: 192.0.2.200}]}\ndataplane:"))
	if a, b := c.Services[0].Check, c.Services[1].Check; b.Path != "/ok" || b.Port != 81 || a.Port != 80 {
		t.Errorf("%+v and %+v", a, b)
	}
}

// Each level multiplies what the next one stands for.
func TestAliasesDoNotExplode(t *testing.T) {
	many := func(s string, n int) string { return strings.TrimSuffix(strings.Repeat(s+", ", n), ", ") }
	errs := faults(t, "cluster: {nodes: [node1]}\n"+
		"node: node1\n"+
		"services: [&s {virtual: 192.0.2.101:80, servers: [&r {address: 192.0.2.200}, "+many("*r", 2000)+"]}, "+many("*s", 2000)+"]\n")
	for _, e := range errs {
		if strings.Contains(e, "the aliases expand to more than") {
			return
		}
	}
	t.Errorf("%d errors and no word of it, first %s", len(errs), errs[0])
}

// What the parser would chew on for minutes is refused before it begins; the
// tests' time limit would see to it otherwise.
func TestTooLarge(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"size", base + "#" + strings.Repeat("x", maxSize), "1:1: the file is larger than 1 MiB"},
		{"keys", strings.Repeat("k: 1\n", 100_000), "257:1: more than 256 keys in one place"},
		{"keys in braces", "a: {" + strings.Repeat("k: 1, ", 100_000), "1:1545: more than 256 keys in one place"},
		{"indentation", "a:\n" + strings.Repeat(" ", 256) + "b: 1\n", "2:257: indented by more than 256 characters"},
	} {
		errs := faults(t, c.file)
		if want := c.want + ": this is no configuration"; errs[0] != want || len(errs) > 1 {
			t.Errorf("%s: %q, want %q", c.name, errs, want)
		}
	}
}

// Every list may be long: 64 services of 128 servers.
func TestManyServers(t *testing.T) {
	var b strings.Builder
	b.WriteString(base[:strings.Index(base, "services:")] + "services:\n")
	for i := range 64 {
		fmt.Fprintf(&b, "  - virtual: 192.0.2.101:%d\n    servers:\n", i+1)
		for j := range 128 {
			fmt.Fprintf(&b, "      - address: 10.0.%d.%d\n        weight: 1\n", i, j)
		}
	}
	b.WriteString("  - {virtual: '192.0.2.101:1000', servers: [")
	for j := range 500 {
		fmt.Fprintf(&b, "{address: 10.1.%d.%d}, ", j/250, j%250)
	}
	b.WriteString("]}\ndataplane: {interface: eth0}\n")
	if c := mustParse(t, b.String()); len(c.Services) != 65 || len(c.Services[63].Servers) != 128 || len(c.Services[64].Servers) != 500 {
		t.Errorf("%d services", len(c.Services))
	}
}

func TestWhoWeAre(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Skip("this host has no name")
	}
	host = strings.ToLower(host)
	anonymous := edit(t, base, "node: node1\n", "")
	ours := strings.ReplaceAll(anonymous, "node2", host)

	for _, c := range []struct{ name, file, override, want string }{
		{"written", base, "", "node1"},
		{"given beats written", base, "node2", "node2"},
		{"the host", ours, "", host},
	} {
		cfg, err := Parse("f", []byte(c.file), c.override)
		if err != nil || cfg.Node != c.want {
			t.Errorf("%s: %v, %v", c.name, cfg, err)
		}
	}
	for _, c := range []struct{ name, file, override, want string }{
		{"the host is none", anonymous, "", fmt.Sprintf(`f:1:1: this host's name: %q is not among cluster.nodes (node1, node2): write node: NAME, or name it on the command line`, host)},
		{"given is none", base, "node3", `f:1:1: the node name given to this command: "node3" is not among cluster.nodes (node1, node2): use one of these`},
	} {
		if _, err := Parse("f", []byte(c.file), c.override); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

func TestGoodVariants(t *testing.T) {
	for name, edits := range map[string][]string{
		"byte order mark":          {"node: node1", "\ufeffnode: node1"},
		"CR LF":                    {"node: node1\n", "node: node1\r\n"},
		"tab after a value":        {"name: web", "name: web\t# comment"},
		"quoted words":             {"type: ucast", `"type": 'ucast'`},
		"document start":           {"node: node1", "---\nnode: node1"},
		"weight 0":                 {"weight: 2", "weight: 0"},
		"prefix length":            {"address: 192.0.2.101,", "address: 192.0.2.101/24,"},
		"udp with a tcp check":     {"check: {type: http, path: /ok, expect: ok}", "protocol: udp\n    check: {type: tcp, port: 53}"},
		"udp and tcp on one port":  {"dataplane:", "  - {virtual: '192.0.2.101:80', protocol: udp, check: {type: none}, servers: [{address: 192.0.2.200}]}\ndataplane:"},
		"no NIC with ipvs":         {"dataplane: {interface: eth0}", "dataplane: {mode: ipvs}"},
		"listen anywhere":          {"dataplane:", "metrics: {listen: ':9101'}\ndataplane:"},
		"listen on IPv6":           {"dataplane:", "metrics: {listen: '[::1]:9101'}\ndataplane:"},
		"second path, other NIC":   {"groups:", "    - {type: ucast, interface: eth1, peers: {node1: 198.51.100.1, node2: 198.51.100.2}}\ngroups:"},
		"second path, a line":      {"groups:", "    - {type: serial, device: /dev/ttyS0}\ngroups:"},
		"bcast":                    {ucastMedium, "{type: bcast, interface: eth0, port: 1694}"},
		"mcast":                    {ucastMedium, "{type: mcast, interface: eth0, group: 239.1.2.3, ttl: 255}"},
		"IPv6 beside IPv4":         {"groups:", "    - {type: ucast, interface: eth0, peers: {node1: 'fe80::1', node2: 'fe80::2'}}\ngroups:"},
		"mcast over IPv6":          {ucastMedium, "{type: mcast, interface: eth0, group: 'ff02::694', ttl: 2}"},
		"two groups on one NIC":    {ucastMedium, "{type: mcast, interface: eth0}\n    - {type: mcast, interface: eth0, port: 695}"},
		"all ports":                {"192.0.2.101:80", "192.0.2.101:*", "ok}", "ok, port: 80}"},
		"a range, a port in it":    {"192.0.2.101:80", "192.0.2.101:80-90", "dataplane:", "  - {virtual: '192.0.2.101:85', servers: [{address: 192.0.2.200}]}\n  - {virtual: '192.0.2.101:*', check: {type: none}, servers: [{address: 192.0.2.200}]}\ndataplane:"},
		"sctp":                     {"    check:", "    protocol: sctp\n    check:"},
		"mark of both families":    {"dataplane:", "  - {fwmark: 7, check: {type: none}, servers: [{address: 192.0.2.200}]}\n  - {fwmark: 7, check: {type: none}, servers: [{address: '2001:db8::2'}]}\ndataplane:"},
		"one packet of a mark":     {"virtual: 192.0.2.101:80", "fwmark: 7\n    one_packet: true", "ok}", "ok, port: 53}"},
		"a tunnel to IPv6":         {"weight: 2}", "forward: ipip}\n      - {address: '2001:db8::2', forward: gue, tunnel_port: 5555}"},
		"query in the path":        {"path: /ok", "path: '/ok?deep=1&x=%20'"},
		"expression of many lines": {"expect: ok}", `expect: "(?s)a.*b"}`},
	} {
		t.Run(name, func(t *testing.T) { mustParse(t, edit(t, base, edits...)) })
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "systole.yaml")
	if err := os.WriteFile(path, []byte(base), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(path, "node2"); err != nil || c.Node != "node2" || c.File != path {
		t.Errorf("%+v, %v", c, err)
	}
	_, err := Load(filepath.Join(dir, "none.yaml"), "")
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("no file: %v", err)
	}
	if _, err := Load(dir, ""); err == nil || errors.Is(err, ErrInvalid) {
		t.Errorf("a directory: %v", err)
	}
}

func TestReferenceIsRight(t *testing.T) {
	c, err := Parse("systole.reference.yaml", Reference, "")
	if err != nil {
		t.Fatal(err)
	}
	if w := advice(c); len(w) != 0 {
		t.Errorf("%q", w)
	}
	types := make(map[string]bool)
	for _, m := range c.Cluster.Media {
		types[m.Type] = true
	}
	if len(types) != len(mediaKeys) {
		t.Errorf("types of media: %v, want %d", types, len(mediaKeys))
	}
}

func TestInterfaces(t *testing.T) {
	for text, want := range map[string]DataPlane{
		"{interface: eth1}":          {Interface: "eth1"},
		"{interfaces: [eth1]}":       {Interface: "eth1", Interfaces: []string{"eth1"}},
		"{interfaces: [eth2, eth1]}": {Interface: "eth2", Interfaces: []string{"eth2", "eth1"}},
	} {
		c := mustParse(t, edit(t, base, "dataplane: {interface: eth0}", "dataplane: "+text))
		if got := c.DataPlane; got.Interface != want.Interface || !slices.Equal(got.Interfaces, want.Interfaces) || len(got.NICs()) == 0 || got.NICs()[0] != want.Interface {
			t.Errorf("%s: %+v, NICs %q", text, got, got.NICs())
		}
	}
	if nics := (DataPlane{}).NICs(); nics != nil {
		t.Errorf("without any: %q", nics)
	}
	// The addresses of the directors are those on any of them.
	c := mustParse(t, edit(t, base, "dataplane: {interface: eth0}", "dataplane: {interfaces: [eth9, eth0]}"))
	if names := c.WithoutAddr(); names != nil {
		t.Errorf("no address of %q", names)
	}
	before := mustParse(t, base)
	if got := LiveChange(before, c); !slices.Equal(got, []string{"dataplane.interface", "dataplane.interfaces"}) {
		t.Errorf("changed live, but for %q", got)
	}
}

// Every key of the structs stands in the reference with a comment, and every
// default that the reference writes out is the one there is.
func TestReferenceIsComplete(t *testing.T) {
	keys := map[string]string{"Addr": "address", "VIP": "virtual", "DataPlane": "dataplane", "VirtualHost": "virtual_host",
		"AutoFailback": "auto_failback", "Legacy": "auto_failback", "StateDir": "state_dir", "VIPs": "vips", "TieBreaker": "tie_breaker",
		"SchedulerFlags": "scheduler_flags", "OnePacket": "one_packet", "TunnelPort": "tunnel_port",
		"ServerIDLength": "server_id_length", "ServerID": "server_id"}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			switch {
			case f.Name == "File" && typ == reflect.TypeFor[Config](), f.Name == "PrefixLen", f.Name == "LastPort",
				f.Name == "Port" && typ == reflect.TypeFor[Service](): // in another key's value
				continue
			}
			key := keys[f.Name]
			if key == "" {
				key = strings.ToLower(f.Name)
			}
			at := regexp.MustCompile(`(?m)^ *(- )?` + key + `:`).FindIndex(Reference)
			if at == nil {
				t.Errorf("%s.%s: no key %q", typ.Name(), f.Name, key)
				continue
			}
			before := bytes.Split(bytes.TrimRight(Reference[:at[0]], "\n"), []byte("\n"))
			last := string(before[len(before)-1])
			if !strings.Contains(last, "#") && key != "address" {
				t.Errorf("%s.%s: no comment before the key %q", typ.Name(), f.Name, key)
			}
			elem := f.Type
			for elem.Kind() == reflect.Slice || elem.Kind() == reflect.Pointer {
				elem = elem.Elem()
			}
			if elem.Kind() == reflect.Struct && elem != reflect.TypeFor[netip.Addr]() {
				walk(elem)
			}
		}
	}
	walk(reflect.TypeFor[Config]())
}

func TestReferenceDefaults(t *testing.T) {
	// What the comments promise as a default: without the line nothing changes.
	ref, err := Parse("f", Reference, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"keepalive", "deadtime", "warntime", "initdead", "auto_failback", "partition", "authkeys", "state_dir", "realtime",
		"port", "preferred", "protocol", "scheduler", "scheduler_flags", "one_packet", "lost", "forward", "tunnel_port", "quiescent", "rise", "fall", "method", "weight", "mode", "pin", "flows", "interfaces", "syncid", "group", "ttl", "bandwidth", "kernel", "socket"} {
		value := ".*"
		switch key { // other values stand there as well
		case "protocol":
			value = "tcp"
		case "forward":
			value = "gate"
		}
		re := regexp.MustCompile(`(?m)^( *)` + key + `: ` + value + `$`)
		without := re.ReplaceAll(Reference, nil)
		if key == "socket" { // the only key of its section
			without = bytes.Replace(without, []byte("\ncontrol:"), []byte("\ncontrol: {}"), 1)
		}
		if bytes.Equal(without, Reference) {
			t.Errorf("no line for %s", key)
		}
		got, err := Parse("f", without, "")
		if err != nil {
			t.Errorf("without %s: %v", key, err)
		} else if diff := cmp.Diff(ref, got, cmpAddr); diff != "" {
			t.Errorf("without %s: %s", key, diff)
		}
	}
}
