package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiffAndLiveChange(t *testing.T) {
	const one = "      - address: 192.0.2.200\n"
	for _, c := range []struct {
		name    string
		edits   []string
		blocked []string
		diff    []string
	}{
		{"nothing", nil, nil, nil},
		{"a comment and a default written out", []string{"cluster:", "# c\ncluster:\n  initdead: 20s"}, nil, nil},
		{"node", []string{"node: node1", "node: node2"}, []string{"node"}, []string{"node: node1 -> node2 (needs a restart)"}},
		{"timers", []string{"keepalive: 1s", "keepalive: 500ms", "deadtime: 10s", "deadtime: 5s"},
			[]string{"cluster.keepalive", "cluster.deadtime", "cluster.warntime", "cluster.initdead", "cluster.deadping"},
			[]string{"cluster.keepalive: 1s -> 500ms (needs a restart)", "cluster.deadtime: 10s -> 5s (needs a restart)",
				"cluster.warntime: 5s -> 2.5s (needs a restart)", "cluster.initdead: 20s -> 12s (needs a restart)",
				"cluster.deadping: 10s -> 5s (needs a restart)"}},
		{"nodes and media", []string{"[node1, node2]", "[node1]", ", node2: 192.0.2.2", ""},
			[]string{"cluster.nodes", "cluster.media"},
			[]string{"cluster.nodes: [node1, node2] -> [node1] (needs a restart)", "cluster.media changed (needs a restart)"}},
		{"files", []string{"  deadtime", "  name: x\n  authkeys: /a\n  state_dir: /s\n  realtime: true\n  suspicion: false\n  deadtime"},
			[]string{"cluster.name", "cluster.suspicion", "cluster.authkeys", "cluster.state_dir", "cluster.realtime"},
			[]string{"cluster.name: systole -> x (needs a restart)", "cluster.suspicion: true -> false (needs a restart)", "cluster.authkeys: /etc/systole/authkeys -> /a (needs a restart)",
				"cluster.state_dir: /var/lib/systole -> /s (needs a restart)",
				"cluster.realtime: false -> true (needs a restart)"}},
		{"the edges", []string{"dataplane: {interface: eth0}", "dataplane: {interface: eth1, mode: native, pin: /p, flows: 2048}\nmetrics: {listen: ':9101'}\ncontrol: {socket: /c}"},
			[]string{"dataplane.interface", "dataplane.mode", "dataplane.pin", "dataplane.flows", "metrics.listen", "control.socket"},
			[]string{"dataplane.interface: eth0 -> eth1 (needs a restart)", "dataplane.mode: auto -> native (needs a restart)",
				"dataplane.pin: /sys/fs/bpf/systole -> /p (needs a restart)", "dataplane.flows: 1048576 -> 2048 (needs a restart)",
				"metrics.listen: none -> :9101 (needs a restart)", "control.socket: /run/systole/systole.sock -> /c (needs a restart)"}},
		{"a witness", []string{"  media:", "  witnesses: [node3]\n  media:", "node2: 192.0.2.2}", "node2: 192.0.2.2, node3: 192.0.2.3}"},
			[]string{"cluster.witnesses", "cluster.media"},
			[]string{"cluster.witnesses: none -> node3 (needs a restart)", "cluster.media changed (needs a restart)"}},
		{"failback", []string{"  deadtime", "  auto_failback: false\n  deadtime"}, nil, []string{"cluster.auto_failback: on -> off"}},
		{"legacy", []string{"  deadtime", "  auto_failback: legacy\n  deadtime", "    preferred: node1", "    preferred: node1\n    haresources: IPaddr2::192.0.2.101/24/eth0"}, nil,
			[]string{"cluster.auto_failback: on -> legacy", "group web: haresources none -> IPaddr2::192.0.2.101/24/eth0"}},
		{"groups", []string{"preferred: node1", "preferred: node2", "192.0.2.101, interface: eth0}", "192.0.2.101/24, interface: eth1}\n      - {address: 192.0.2.102, interface: eth0}",
			"services:", "  - {name: db, vips: [{address: 192.0.2.103, interface: eth0}]}\nservices:"}, nil,
			[]string{"group web: preferred node1 -> node2", "group web: 192.0.2.101: /32 on eth0 -> /24 on eth1", "group web: 192.0.2.102 added", "group db added"}},
		{"a service moves to another port", []string{"192.0.2.101:80", "192.0.2.101:81"}, nil,
			[]string{"service 192.0.2.101:81/tcp added", "service 192.0.2.101:80/tcp removed"}},
		{"servers", []string{one, "      - address: 192.0.2.202\n", "weight: 2", "weight: 3"}, nil,
			[]string{"service 192.0.2.101:80/tcp: server 192.0.2.202 added", "service 192.0.2.101:80/tcp: server 192.0.2.201: weight 2 -> 3", "service 192.0.2.101:80/tcp: server 192.0.2.200 removed"}},
		{"the service's check, said once", []string{"path: /ok", "path: /new"}, nil,
			[]string{`service 192.0.2.101:80/tcp: checked by http port 80 GET /ok for "ok" every 2s, timeout 1s, rise 1, fall 1 -> checked by http port 80 GET /new for "ok" every 2s, timeout 1s, rise 1, fall 1`}},
		{"a server's check", []string{"weight: 2", "weight: 2, check: {type: none}"}, nil,
			[]string{`service 192.0.2.101:80/tcp: server 192.0.2.201: checked by http port 80 GET /ok for "ok" every 2s, timeout 1s, rise 1, fall 1 -> not checked`}},
		{"scheduler, quiescent, fallback", []string{"    servers:", "    scheduler: wrr\n    quiescent: true\n    fallback: {address: 192.0.2.202}\n    servers:"}, nil,
			[]string{"service 192.0.2.101:80/tcp: scheduler rr -> wrr", "service 192.0.2.101:80/tcp: quiescent false -> true", "service 192.0.2.101:80/tcp: fallback none -> 192.0.2.202"}},
		{"how connections are given and kept", []string{"    check:", "    scheduler: sh\n    scheduler_flags: [sh-port]\n    persistent: {timeout: 10m, netmask: 255.255.255.0}\n    timeouts: {tcp: 1h, tcpfin: 30s}\n    lost: keep\n    check:"}, nil,
			[]string{"service 192.0.2.101:80/tcp: scheduler rr -> sh (sh-port)", "service 192.0.2.101:80/tcp: persistent none -> 10m of a /24",
				"service 192.0.2.101:80/tcp: timeouts none -> tcp 1h, tcpfin 30s", "service 192.0.2.101:80/tcp: lost reset -> keep"}},
		{"forwarding", []string{"weight: 2", "weight: 2, forward: masq, port: 8080, upper: 100, lower: 50", "    servers:", "    fallback: {address: 10.0.0.2, forward: gue}\n    servers:"}, nil,
			[]string{"service 192.0.2.101:80/tcp: server 192.0.2.201: forward gate -> masq to port 8080, up to 100 connections and again below 50",
				`service 192.0.2.101:80/tcp: server 192.0.2.201: checked by http port 80 GET /ok for "ok" every 2s, timeout 1s, rise 1, fall 1 -> checked by http port 8080 GET /ok for "ok" every 2s, timeout 1s, rise 1, fall 1`,
				"service 192.0.2.101:80/tcp: fallback none -> 10.0.0.2 by gue to udp port 6080"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			old, new := mustParse(t, base), mustParse(t, edit(t, base, c.edits...))
			if diff := cmp.Diff(c.blocked, LiveChange(old, new)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.diff, Diff(old, new)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A field that is neither fixed nor compared would be reloaded without a word.
func TestDiffKnowsEveryField(t *testing.T) {
	known := map[reflect.Type]int{ // fields that Diff deals with; Config's File is left out
		reflect.TypeFor[Config](): 9, reflect.TypeFor[Cluster](): 20, reflect.TypeFor[Group](): 4, reflect.TypeFor[VIP](): 3,
		reflect.TypeFor[Service](): 16, reflect.TypeFor[Server](): 9, reflect.TypeFor[QUIC](): 1, reflect.TypeFor[Persistent](): 2, reflect.TypeFor[Timeouts](): 3, reflect.TypeFor[DataPlane](): 6,
		reflect.TypeFor[Metrics](): 1, reflect.TypeFor[Sync](): 9, reflect.TypeFor[Control](): 1,
	}
	for typ, n := range known {
		if typ.NumField() != n {
			t.Errorf("%s has %d fields, Diff knows %d", typ, typ.NumField(), n)
		}
	}
}

func TestSummary(t *testing.T) {
	c := mustParse(t, edit(t, base,
		"    servers:", "    quiescent: true\n    fallback: {address: 192.0.2.202}\n    servers:",
		"weight: 2", "check: {type: none}",
		"groups:", "    - {type: bcast, interface: eth1}\n    - {type: mcast, interface: eth2, port: 695}\n    - {type: serial, device: /dev/ttyS0}\ngroups:",
		"  media:", "  addresses: {node1: 192.0.2.1, node2: 192.0.2.2}\n  media:",
		"dataplane:", "metrics: {listen: ':9101'}\ndataplane:"))
	want := `cluster systole: 2 directors of node1, node2 (this is node1)
  a beat every 1s, late after 5s, dead after 10s, 20s at the start
  medium ucast on eth0, udp port 694: node1 192.0.2.1, node2 192.0.2.2
  medium bcast on eth1, udp port 694
  medium mcast on eth2, udp port 695, group 225.0.0.1, ttl 1
  medium serial on /dev/ttyS0, 19200 bit/s
  addresses: node1 192.0.2.1, node2 192.0.2.2
group web: prefers node1, goes back to its preferred director by itself
  192.0.2.101/32 on eth0
service 192.0.2.101:80/tcp: rr over 2 real servers, checked by http port 80 GET /ok for "ok" every 2s, timeout 1s, rise 1, fall 1
  192.0.2.200 weight 1
  192.0.2.201 weight 1, not checked
  192.0.2.202 as fallback
  a server that fails its check keeps its connections (quiescent)
data plane: auto on eth0, 1048576 flows, pinned in /sys/fs/bpf/systole
metrics: :9101
control: /run/systole/systole.sock
`
	if diff := cmp.Diff(want, Summary(c)); diff != "" {
		t.Error(diff)
	}
}

func TestAdvice(t *testing.T) {
	second := []string{"groups:", "    - {type: ucast, interface: eth1, peers: {node1: 198.51.100.1, node2: 198.51.100.2}}\ngroups:", "weight: 2", "weight: 1"}
	for _, c := range []struct {
		name  string
		edits []string
		want  []string // how each warning begins
	}{
		{"nothing to say", nil, nil},
		{"three beats", []string{"deadtime: 10s", "deadtime: 3s"}, []string{"cluster.deadtime 3s is less than five times"}},
		{"early warning", []string{"deadtime: 10s", "deadtime: 10s\n  warntime: 1s"}, []string{"cluster.warntime 1s is not more than"}},
		{"weights with rr", []string{"weight: 1", "weight: 2"}, []string{"service 192.0.2.101:80/tcp: scheduler rr ignores"}},
		{"weights with wrr", []string{"weight: 1", "weight: 2", "    servers:", "    scheduler: wrr\n    servers:"}, nil},
		{"quiesced with rr", []string{"weight: 1", "weight: 0"}, nil},
		{"all quiesced", []string{"weight: 1", "weight: 0", "192.0.2.200", "192.0.2.200\n        weight: 0"}, []string{"service 192.0.2.101:80/tcp: every server has weight 0"}},
		{"udp by tcp", []string{"    check: {type: http, path: /ok, expect: ok}", "    protocol: udp\n    check: {type: tcp}"}, []string{"service 192.0.2.101:80/udp: the check asks tcp port 80"}},
		{"two NICs", []string{"dataplane: {interface: eth0}", "dataplane: {interface: eth1}"}, []string{"group web: 192.0.2.101 lives on eth0, but"}},
		{"slow line", []string{"deadtime: 10s", "deadtime: 10s", "keepalive: 1s", "keepalive: 600ms", "groups:", "    - {type: serial, device: /dev/ttyS0, baud: 9600}\ngroups:"}, []string{"cluster.media: a beat takes 313ms on /dev/ttyS0 at 9600 bit/s, more than half of keepalive 600ms"}},
		{"fast line", []string{"keepalive: 1s", "keepalive: 600ms", "groups:", "    - {type: serial, device: /dev/ttyS0}\ngroups:"}, nil},
		{"one NIC", []string{"interface: eth1", "interface: eth0, port: 695"}, []string{"cluster.media: all paths go over eth0"}},
		{"one NIC and a line", []string{"interface: eth1", "interface: eth0, port: 695", "groups:", "    - {type: serial, device: /dev/ttyS0}\ngroups:"}, nil},
		{"no address on the LAN", []string{ucastMedium, "{type: bcast, interface: eth0}"}, []string{"cluster.addresses: the address of node1 and node2 on the LAN of eth0 is not known"}},
		{"addresses", []string{ucastMedium, "{type: bcast, interface: eth0}", "  media:", "  addresses: {node1: 192.0.2.1, node2: 192.0.2.2}\n  media:"}, nil},
		{"no second chance with ipvs", []string{ucastMedium, "{type: bcast, interface: eth0}", "dataplane: {interface: eth0}", "dataplane: {mode: ipvs}"}, nil},
	} {
		got := advice(mustParse(t, edit(t, base, append(second[:4:4], c.edits...)...)))
		if len(got) != len(c.want) {
			t.Errorf("%s: %q", c.name, got)
			continue
		}
		for i := range got {
			if !strings.HasPrefix(got[i], c.want[i]) {
				t.Errorf("%s: %q, want %q", c.name, got[i], c.want[i])
			}
		}
	}
}

func TestWarnings(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "authkeys")
	file := edit(t, base, "  deadtime", "  authkeys: "+keys+"\n  deadtime", "dataplane: {interface: eth0}", "dataplane: {interface: lo}")
	file = strings.ReplaceAll(file, "interface: eth0", "interface: lo")
	about := func(part string) string {
		for _, w := range Warnings(mustParse(t, file)) {
			if strings.Contains(w, part) {
				return w
			}
		}
		return ""
	}
	if got := about("authkeys"); !strings.Contains(got, "there is no "+keys) {
		t.Errorf("no file: %q", got)
	}
	if err := os.WriteFile(keys, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	if got := about("authkeys"); !strings.Contains(got, "has mode 0640") || !strings.Contains(got, "chmod 600 "+keys) {
		t.Errorf("mode: %q", got)
	}
	if err := os.Chmod(keys, 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"":                                   "the daemon will refuse it: " + keys + ":1: no line",
		"auth 1\n1 sha1 word\n":              "",
		"auth 1\n1 sha1 word\n2 md5 word\n":  "",
		"auth 1\n1 crc\n":                    "key 1 crc finds damaged packets and stops nobody",
		"auth 2\n1 sha1 old\n2 sha256 new\n": "key 1 sha1 is accepted as well",
		"auth 2\n2 sha256 new\n":             "",
	} {
		if err := os.WriteFile(keys, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := about("authkeys"); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := about("interface lo"); got != "" {
		t.Errorf("lo: %q", got)
	}
	file = strings.Replace(file, "interface: lo", "interface: nosuch0", 1)
	file = strings.Replace(file, "groups:", "    - {type: serial, device: /dev/nosuch}\ngroups:", 1)
	if got := about("serial line"); got != "serial line /dev/nosuch is not on this machine" {
		t.Errorf("nosuch: %q", got)
	}
	if got := about("interface  is"); got != "" {
		t.Errorf("a medium without an interface: %q", got)
	}
	if got := about("interface nosuch0"); got != "interface nosuch0 is not on this machine" {
		t.Errorf("nosuch0: %q", got)
	}
}
