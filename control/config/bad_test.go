package config

// base is a configuration without a fault, which the cases of TestBad break.
const base = `node: node1
cluster:
  keepalive: 1s
  deadtime: 10s
  nodes: [node1, node2]
  media:
    - type: ucast
      interface: eth0
      peers: {node1: 192.0.2.1, node2: 192.0.2.2}
groups:
  - name: web
    preferred: node1
    vips:
      - {address: 192.0.2.101, interface: eth0}
services:
  - virtual: 192.0.2.101:80
    check: {type: http, path: /ok, expect: ok}
    servers:
      - address: 192.0.2.200
      - {address: 192.0.2.201, weight: 2}
dataplane: {interface: eth0}
`

// ucastMedium is the medium of base.
const ucastMedium = `type: ucast
      interface: eth0
      peers: {node1: 192.0.2.1, node2: 192.0.2.2}`

// bad are edits of base (text to replace by the text that follows it, each once)
// and every error they must give.
var bad = []struct {
	name  string
	edits []string
	want  []string
}{
	{"unknown key at the top", []string{"dataplane:", "datapane:"}, []string{
		`21:1: unknown key "datapane" at the top level: did you mean "dataplane"?`,
	}},
	{"unknown key in cluster, misspelt", []string{"keepalive:", "keep_alive:"}, []string{
		`3:3: unknown key "keep_alive" in cluster: did you mean "keepalive"?`,
	}},
	{"unknown key in cluster, another's word", []string{"  deadtime:", "  failback: on\n  deadtime:"}, []string{
		`4:3: unknown key "failback" in cluster: did you mean "auto_failback"?`,
	}},
	{"unknown key in media", []string{"      interface: eth0\n", "      interface: eth0\n      udpport: 694\n"}, []string{
		`9:7: unknown key "udpport" in media: did you mean "port"?`,
	}},
	{"unknown key in groups", []string{"    preferred: node1", "    owner: node1"}, []string{
		`12:5: unknown key "owner" in groups: did you mean "preferred"?`,
	}},
	{"unknown key in vips", []string{"      - {address: 192.0.2.101, interface: eth0}", "      - {address: 192.0.2.101, dev: eth0}"}, []string{
		`14:32: unknown key "dev" in vips: did you mean "interface"?`,
	}},
	{"unknown key in services", []string{"    check:", "    colour: red\n    check:"}, []string{
		`17:5: unknown key "colour" in services: want virtual, fwmark, protocol, scheduler, scheduler_flags, persistent, one_packet, quic, timeouts, lost, quiescent, check, servers or fallback`,
	}},
	{"unknown key in servers, another's word", []string{"weight: 2", "lvs_method: DR"}, []string{
		`20:32: unknown key "lvs_method" in servers: did you mean "forward"?`,
	}},
	{"unknown key in check", []string{"path: /ok", "request: /ok"}, []string{
		`17:25: unknown key "request" in check: did you mean "path"?`,
	}},
	{"unknown key in servers", []string{"weight: 2", "wieght: 2"}, []string{
		`20:32: unknown key "wieght" in servers: did you mean "weight"?`,
	}},
	{"unknown key in dataplane", []string{"dataplane: {interface: eth0}", "dataplane: {interface: eth0, size: 5}"}, []string{
		`21:30: unknown key "size" in dataplane: want mode, interface, interfaces, pin, flows or evict`,
	}},
	{"unknown key in metrics", []string{"dataplane:", "metrics: {addr: x}\ndataplane:"}, []string{
		`21:11: unknown key "addr" in metrics: want listen`,
	}},
	{"unknown key in control", []string{"dataplane:", "control: {path: /x}\ndataplane:"}, []string{
		`21:11: unknown key "path" in control: want socket`,
	}},
	{"duplicate key", []string{"  deadtime: 10s\n", "  deadtime: 10s\n  keepalive: 2s\n"}, []string{
		"5:3: keepalive is written twice, first in line 3: remove one",
	}},
	{"duplicate key in a flow mapping", []string{"weight: 2", "weight: 2, weight: 3"}, []string{
		"20:43: weight is written twice, first in line 20: remove one",
	}},
	{"duplicate section", []string{"dataplane:", "node: node2\ndataplane:"}, []string{
		"21:1: node is written twice, first in line 1: remove one",
	}},
	{"key that is a number", []string{"{node1: 192.0.2.1,", "{1: 192.0.2.1,"}, []string{
		"9:7: node1 is missing in peers: write the address of every node on this path, such as node1: 192.0.2.1",
		"9:15: a key must be plain text: put 1 in quotes",
	}},
	{"merge key", []string{"weight: 2", "<<: {weight: 2}"}, []string{
		`20:32: merge keys ("<<") are not supported: write the keys out, or use the whole mapping by an alias`,
	}},
	{"cluster is text", []string{`cluster:
  keepalive: 1s
  deadtime: 10s
  nodes: [node1, node2]
  media:
    - type: ucast
      interface: eth0
      peers: {node1: 192.0.2.1, node2: 192.0.2.2}
`, "cluster: web\n"}, []string{
		`2:10: cluster: want keys and values, found "web"`,
	}},
	{"section without a value", []string{"dataplane: {interface: eth0}", "dataplane:"}, []string{
		"21:1: dataplane has no value: give it one, or remove the key",
	}},
	{"key without a value", []string{"keepalive: 1s", "keepalive:"}, []string{
		"3:3: keepalive has no value: give it one, or remove the key",
	}},
	{"list where text belongs", []string{"keepalive: 1s", "keepalive: [1s]"}, []string{
		"3:14: keepalive: want a single value, found a list",
	}},
	{"mapping where a list belongs", []string{"nodes: [node1, node2]", "nodes: {node1: node2}"}, []string{
		`5:10: nodes: want a list, found keys and values: begin each entry with "- "`,
	}},
	{"text where a list belongs", []string{"nodes: [node1, node2]", "nodes: node1 node2"}, []string{
		`5:10: nodes: want a list, found "node1 node2": begin each entry with "- "`,
	}},
	{"list without a value", []string{"nodes: [node1, node2]", "nodes:"}, []string{
		"5:3: nodes has no value: give it one, or remove the key",
	}},
	{"text where a mapping belongs", []string{"      - address: 192.0.2.200", "      - 192.0.2.200"}, []string{
		"19:9: servers: want keys and values: write {address: 192.0.2.200}",
	}},
	{"entry without a value", []string{"      - address: 192.0.2.200", "      -"}, []string{
		`19:8: servers: an empty entry: remove the "-"`,
	}},
	{"number where text belongs", []string{"name: web", "name: 5"}, []string{
		`11:11: name: 5 is not text to YAML: write "5", in quotes`,
	}},
	{"number as expression", []string{"expect: ok", "expect: 200"}, []string{
		`17:44: expect: 200 is not text to YAML: write "200", in quotes`,
	}},
	{"empty text", []string{"path: /ok", "path: ''"}, []string{
		"17:31: path: is empty: give it a value, or remove the key",
	}},
	{"number in quotes", []string{"weight: 2", `weight: "2"`}, []string{
		"20:40: weight: want a number: write 2, without quotes",
	}},
	{"hexadecimal number", []string{"weight: 2", "weight: 0x10"}, []string{
		`20:40: weight: want a number from 0 to 65535, found "0x10"`,
	}},
	{"auto_failback of no kind", []string{"  deadtime:", "  auto_failback: legasy\n  deadtime:"}, []string{
		`4:18: auto_failback: want true, false or legacy, found "legasy": did you mean "legacy"?`,
	}},
	{"at most one without quorum", []string{"  deadtime:", "  partition: at-most-one\n  deadtime:"}, []string{
		`4:14: partition: at-most-one needs to know who has quorum: configure cluster.quorum with kind tie_breaker and a ping node, such as the gateway, as its tie_breaker; or leave partition out (at-least-one)`,
	}},
	{"partition of no kind", []string{"  deadtime:", "  partition: atmostone\n  deadtime:"}, []string{
		`4:14: partition: want at-least-one or at-most-one, found "atmostone": did you mean "at-most-one"?`,
	}},
	{"haresources with a whole line", []string{"    preferred: node1", "    preferred: node1\n    haresources: node1 192.0.2.101"}, []string{
		`13:18: haresources: "node1 192.0.2.101" is not one resource: write the first one of the group's line in haresources, such as IPaddr2::192.0.2.101/24/eth0`,
	}},
	{"boolean of another language", []string{"    check:", "    quiescent: yes\n    check:"}, []string{
		`17:16: quiescent: "yes" is not true or false: write true, without quotes`,
	}},
	{"boolean that is none", []string{"    check:", "    quiescent: maybe\n    check:"}, []string{
		`17:16: quiescent: want true or false, found "maybe"`,
	}},
	{"cluster missing", []string{`cluster:
  keepalive: 1s
  deadtime: 10s
  nodes: [node1, node2]
  media:
    - type: ucast
      interface: eth0
      peers: {node1: 192.0.2.1, node2: 192.0.2.2}
`, ""}, []string{
		`1:1: cluster is missing: write "cluster:" with at least "nodes: [...]"`,
	}},
	{"nodes missing", []string{"  nodes: [node1, node2]\n", ""}, []string{
		"2:1: nodes is missing in cluster: write the names of the directors, such as nodes: [node1, node2]",
	}},
	{"nodes empty", []string{"  nodes: [node1, node2]\n", "  nodes: []\n"}, []string{
		"5:3: nodes is empty: name one or two directors",
	}},
	{"node name in capitals", []string{"[node1, node2]", "[Node1, node2]"}, []string{
		`5:11: nodes: "Node1": node names are lower case, write "node1"`,
	}},
	{"node name with a space", []string{"[node1, node2]", "[node1, 'node 2']"}, []string{
		`5:18: nodes: "node 2" is not a node name: want letters, digits and . _ -`,
	}},
	{"node name too long", []string{"[node1, node2]", "[node1, node2xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx]"}, []string{
		"5:18: nodes: a node name has fewer than 100 characters, this has 100",
	}},
	{"autojoin", []string{"  deadtime", "  autojoin: all\n  deadtime"}, []string{
		`4:13: autojoin: want none, other or any, found "all"`,
	}},
	{"deadping", []string{"  deadtime", "  deadping: 1s\n  deadtime"}, []string{
		"4:13: deadping 1s must be at least twice keepalive 1s: a ping node is asked with each beat",
	}},
	{"ping nodes", []string{"  deadtime", "  ping: [gw, 192.0.2.9, 192.0.2.9, {name: node1, hosts: [192.0.2.8]}, {name: r, hosts: []}, {hosts: [192.0.2.7]}]\n  deadtime"}, []string{
		`4:10: ping: "gw" is not an IP address: write one such as 192.0.2.10; host names are not looked up`,
		"4:25: ping: 192.0.2.9 is there twice: remove one",
		"4:36: ping: node1 is a node: a ping node has its own name",
		"4:71: hosts is missing in ping: write the addresses of its machines, such as hosts: [192.0.2.253, 192.0.2.254]",
		"4:93: name is missing in ping: write what the group is called, such as name: routers",
	}},
	{"at most one with a quorum for all", []string{"  deadtime", "  partition: at-most-one\n  quorum: {kind: none}\n  deadtime"}, []string{
		"5:18: kind none gives quorum to both sides of a partition, and partition is at-most-one: write kind: tie_breaker",
	}},
	{"quorum kind", []string{"  deadtime", "  quorum: {kind: most}\n  deadtime"}, []string{
		`4:18: kind: want none, majority, weight or tie_breaker, found "most"`,
	}},
	{"quorum without kind", []string{"  deadtime", "  quorum: {tie_breaker: node1}\n  deadtime"}, []string{
		"4:3: kind is missing in quorum: write one of none, majority, weight and tie_breaker, such as kind: tie_breaker",
	}},
	{"quorum without tie-breaker", []string{"  deadtime", "  quorum: {kind: tie_breaker}\n  deadtime"}, []string{
		"4:3: quorum: kind tie_breaker needs the name of a node or of a ping node: write tie_breaker: NAME",
	}},
	{"quorum with an unknown tie-breaker", []string{"  deadtime", "  quorum: {kind: tie_breaker, tie_breaker: gw}\n  deadtime"}, []string{
		`4:44: tie_breaker: "gw" is neither among nodes (node1, node2) nor a ping node`,
	}},
	{"quorum with what has no effect", []string{"  deadtime", "  quorum: {kind: majority, tie_breaker: node1}\n  deadtime"}, []string{
		"4:41: tie_breaker has no effect with kind majority: remove it, or write kind: tie_breaker",
	}},
	{"quorum with weights of no effect", []string{"  deadtime", "  quorum: {kind: majority, weights: {node1: 2}}\n  deadtime"}, []string{
		"4:28: weights have no effect with kind majority: remove them, or write kind: weight",
	}},
	{"quorum with bad weights", []string{"  deadtime", "  quorum: {kind: weight, weights: {node3: 2, node1: -1}}\n  deadtime"}, []string{
		`4:36: weights: "node3" is not among nodes (node1, node2)`,
		"4:53: node1: -1 is out of range: want 0 to 1000",
	}},
	{"quorum of nothing", []string{"  deadtime", "  quorum: {kind: weight, weights: {node1: 0, node2: 0}}\n  deadtime"}, []string{
		"4:26: weights: all nodes together weigh nothing: no part of the cluster could have quorum",
	}},
	{"node named twice", []string{"[node1, node2]", "[node1, node1]"}, []string{
		"5:18: nodes: node1 is named twice: each director has its own name",
	}},
	{"three nodes", []string{"[node1, node2]", "[node1, node2, node3]", "node2: 192.0.2.2}", "node2: 192.0.2.2, node3: 192.0.2.3}"}, []string{
		"5:25: nodes: there are one or two directors: a third node that is to vote goes under witnesses",
	}},
	{"witnesses that are none", []string{"  media:", "  witnesses: [node1, W, node3, node3, 7x!]\n  media:"}, []string{
		"6:15: witnesses: node1 is a director, and votes anyway: name it in one place",
		`6:22: witnesses: "W": node names are lower case, write "w"`,
		"6:32: witnesses: node3 is named twice: each witness has its own name",
		`6:39: witnesses: "7x!" is not a node name: want letters, digits and . _ -`,
	}},
	{"witnesses that are no list", []string{"  media:", "  witnesses: node3\n  media:"}, []string{
		`6:14: witnesses: want a list, found "node3": begin each entry with "- "`,
	}},
	{"witnesses without a value", []string{"  media:", "  witnesses:\n  media:"}, []string{
		"6:3: witnesses has no value: give it one, or remove the key",
	}},
	{"too many witnesses", []string{"  media:", "  witnesses: [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]\n  media:", ucastMedium, "{type: bcast, interface: eth0}"}, []string{
		"6:57: witnesses: more than 14: name fewer; sixteen nodes are the most",
	}},
	{"a witness without an address", []string{"  media:", "  witnesses: [node3]\n  media:"}, []string{
		"10:7: node3 is missing in peers: write the address of every node on this path, such as node3: 192.0.2.1",
	}},
	{"a witness on the LAN of the real servers", []string{"  media:", "  witnesses: [node3]\n  addresses: {node1: 192.0.2.1, node2: 192.0.2.2, node3: 192.0.2.3}\n  media:", ucastMedium, "{type: bcast, interface: eth0}"}, []string{
		"7:51: addresses: node3 is a witness and forwards nothing: remove it here",
	}},
	{"a witness as owner", []string{"  media:", "  witnesses: [node3]\n  media:", "node2: 192.0.2.2}", "node2: 192.0.2.2, node3: 192.0.2.3}", "preferred: node1", "preferred: node3", "192.0.2.101,", "192.0.2.3,", "192.0.2.101:80", "192.0.2.3:80"}, []string{
		`13:16: preferred: "node3" is not among cluster.nodes (node1, node2)`,
		"15:19: address: 192.0.2.3 is the own address of node3: a VIP must be free to move",
	}},
	{"a witness as ping node", []string{"  media:", "  witnesses: [node3]\n  ping: [{name: node3, hosts: [192.0.2.9]}]\n  media:", ucastMedium, "{type: bcast, interface: eth0}"}, []string{
		"7:10: ping: node3 is a node: a ping node has its own name",
	}},
	{"names beside witnesses", []string{"node: node1", "node: node9", "  media:", "  witnesses: [node3]\n  quorum: {kind: tie_breaker, tie_breaker: node8, weights: {node7: 2}}\n  media:", "node2: 192.0.2.2}", "node2: 192.0.2.2, node3: 192.0.2.3, node6: 192.0.2.6}"}, []string{
		`1:7: node: "node9" is not among cluster.nodes and witnesses (node1, node2, node3): use one of these`,
		`7:44: tie_breaker: "node8" is neither among nodes and witnesses (node1, node2, node3) nor a ping node`,
		`7:61: weights: "node7" is not among nodes and witnesses (node1, node2, node3)`,
		`11:69: peers: "node6" is not among nodes and witnesses (node1, node2, node3)`,
	}},
	{"own node unknown", []string{"node: node1", "node: node3"}, []string{
		`1:7: node: "node3" is not among cluster.nodes (node1, node2): use one of these`,
	}},
	{"duration without a unit", []string{"keepalive: 1s", "keepalive: 1"}, []string{
		"3:14: keepalive: 1 has no unit: write 1s for seconds, 1ms for milliseconds",
	}},
	{"duration that is none", []string{"keepalive: 1s", "keepalive: 1 second"}, []string{
		`3:14: keepalive: "1 second" is not a duration: write one such as 500ms, 10s or 1m30s`,
	}},
	{"duration too short", []string{"keepalive: 1s", "keepalive: 1ms"}, []string{
		"3:14: keepalive: 1ms is too short: want 10ms to 1m",
	}},
	{"duration too long", []string{"deadtime: 10s", "deadtime: 2h"}, []string{
		"4:13: deadtime: 2h is too long: want 20ms to 1h",
	}},
	{"duration too fine", []string{"keepalive: 1s", "keepalive: 20.5ms\n  warntime: 20500us"}, []string{
		"3:14: keepalive: 20.5ms is not a whole number of milliseconds",
		"4:13: warntime: 20500us is not a whole number of milliseconds",
	}},
	{"negative duration", []string{"keepalive: 1s", "keepalive: -1s"}, []string{
		"3:14: keepalive: -1s is too short: want 10ms to 1m",
	}},
	{"deadtime is twice keepalive", []string{"deadtime: 10s", "deadtime: 2s"}, []string{
		"4:13: deadtime 2s must be more than twice keepalive 1s: better is ten times, 10s",
	}},
	{"deadtime by default less than twice keepalive", []string{"  keepalive: 1s\n  deadtime: 10s", "  keepalive: 5s"}, []string{
		"3:14: deadtime 10s must be more than twice keepalive 5s: better is ten times, 50s",
	}},
	{"warntime is deadtime", []string{"  deadtime: 10s", "  deadtime: 10s\n  warntime: 10s"}, []string{
		"5:13: warntime 10s must be less than deadtime 10s: half of it, 5s, is usual",
	}},
	{"initdead less than deadtime", []string{"  deadtime: 10s", "  deadtime: 10s\n  initdead: 9s"}, []string{
		"5:13: initdead 9s must not be less than deadtime 10s: twice as much, 20s, is usual",
	}},
	{"relative path", []string{"  deadtime: 10s", "  deadtime: 10s\n  authkeys: authkeys\n  state_dir: ./state"}, []string{
		`5:13: authkeys: "authkeys" is not an absolute path: begin it with /`,
		`6:14: state_dir: "./state" is not an absolute path: begin it with /`,
	}},
	{"media missing", []string{"  media:\n    - type: ucast\n      interface: eth0\n      peers: {node1: 192.0.2.1, node2: 192.0.2.2}\n", ""}, []string{
		"2:1: media is missing in cluster: write at least one path between the directors, such as - {type: ucast, interface: eth0, peers: {...}}",
	}},
	{"medium of heartbeat", []string{"type: ucast", "type: ping"}, []string{
		`7:13: type: "ping" is not there yet: remove it`,
	}},
	{"medium over IPv6", []string{"type: ucast", "type: mcast6"}, []string{
		`7:13: type: "mcast6" is mcast with an IPv6 group here: use mcast`,
	}},
	{"broadcast over IPv6", []string{"type: ucast", "type: bcast6"}, []string{
		`7:13: type: "bcast6" is nothing IPv6 has: use mcast with an IPv6 group`,
	}},
	{"medium unknown", []string{"type: ucast", "type: ucats"}, []string{
		`7:13: type: want ucast, bcast, mcast or serial, found "ucats": did you mean "ucast"?`,
	}},
	{"medium without type", []string{"    - type: ucast\n      interface: eth0\n      peers:", "    - peers:"}, []string{
		"7:7: type is missing in media: write one of ucast, bcast, mcast and serial, such as type: ucast",
	}},
	{"ucast without interface", []string{"      interface: eth0\n      peers:", "      peers:"}, []string{
		"7:7: interface is missing in media: write the NIC of this path, such as interface: eth0",
	}},
	{"ucast with keys of others", []string{"      peers:", "      ttl: 2\n      group: 225.0.0.1\n      baud: 9600\n      device: /dev/ttyS0\n      peers:"}, []string{
		"9:7: ttl has no effect in a medium of type ucast: remove it",
		"10:7: group has no effect in a medium of type ucast: remove it",
		"11:7: baud has no effect in a medium of type ucast: remove it",
		"12:7: device has no effect in a medium of type ucast: remove it",
	}},
	{"bcast with peers", []string{"type: ucast", "type: bcast"}, []string{
		"9:7: peers has no effect in a medium of type bcast: remove it",
	}},
	{"bcast with a group", []string{ucastMedium, "{type: bcast, interface: eth0, group: 225.0.0.1}"}, []string{
		"7:38: group has no effect in a medium of type bcast: remove it",
	}},
	{"bcast without interface", []string{ucastMedium, "{type: bcast}"}, []string{
		"7:7: interface is missing in media: write the NIC of this path, such as interface: eth0",
	}},
	{"mcast to one machine", []string{ucastMedium, "{type: mcast, interface: eth0, group: 192.0.2.1}"}, []string{
		"7:45: group: 192.0.2.1 is not a multicast group: want one from 224.0.1.0 to 239.255.255.255",
	}},
	{"mcast to routers", []string{ucastMedium, "{type: mcast, interface: eth0, group: 224.0.0.18}"}, []string{
		"7:45: group: 224.0.0.18 belongs to routers and the like (224.0.0.0/24, RFC 5771): want one from 224.0.1.0 to 239.255.255.255",
	}},
	{"mcast to a name", []string{ucastMedium, "{type: mcast, interface: eth0, group: all}"}, []string{
		`7:45: group: "all" is not an IP address: write a multicast group such as 225.0.0.1`,
	}},
	{"mcast over IPv6 to one machine", []string{ucastMedium, "{type: mcast, interface: eth0, group: '2001:db8::1'}"}, []string{
		"7:45: group: 2001:db8::1 is not a multicast group: want one such as ff02::694",
	}},
	{"mcast over IPv6 to routers", []string{ucastMedium, "{type: mcast, interface: eth0, group: 'ff02::2'}"}, []string{
		"7:45: group: ff02::2 belongs to hosts, routers and the like (RFC 2375): want one such as ff02::694",
	}},
	{"mcast over IPv6 within the machine", []string{ucastMedium, "{type: mcast, interface: eth0, group: 'ff11::694'}"}, []string{
		"7:45: group: ff11::694 does not leave the machine (RFC 4291 section 2.7): want one such as ff02::694",
	}},
	{"mcast with a zone", []string{ucastMedium, "{type: mcast, interface: eth0, group: 'ff02::694%eth0'}"}, []string{
		"7:45: group: ff02::694%eth0 has a zone, and that is the medium's interface: write ff02::694",
	}},
	{"peers of two families", []string{"192.0.2.2}", "'2001:db8::2'}"}, []string{
		"9:7: peers: node1 has an IPv4 address, node2 an IPv6 address: each needs a medium of its own",
	}},
	{"peer with a zone", []string{"192.0.2.1,", "'fe80::1%eth0',", "192.0.2.2}", "'fe80::2'}"}, []string{
		"9:22: node1: fe80::1%eth0 has a zone, and that is the medium's interface: write fe80::1",
	}},
	{"peer as IPv6", []string{"192.0.2.1,", "'::ffff:192.0.2.1',"}, []string{
		"9:22: node1: ::ffff:192.0.2.1 is an IPv4 address: write 192.0.2.1",
	}},
	{"peer of all IPv6", []string{"192.0.2.1,", "'ff02::1',", "192.0.2.2}", "'::'}"}, []string{
		"9:22: node1: ff02::1 is not the address of one machine",
		"9:40: node2: :: is not the address of one machine",
	}},
	{"IPv6 medium twice", []string{ucastMedium, "{type: ucast, interface: eth0, peers: {node1: 'fe80::1', node2: 'fe80::2'}}\n    - {type: mcast, interface: eth0, group: 'ff02::694'}"}, []string{
		"8:32: media: eth0 port 694 over IPv6 is there already, in line 7: a second path needs another NIC or port",
	}},
	{"mcast ttl", []string{ucastMedium, "{type: mcast, interface: eth0, ttl: 0}"}, []string{
		"7:43: ttl: 0 is out of range: want 1 to 255",
	}},
	{"mcast with heartbeat's loop", []string{ucastMedium, "{type: mcast, interface: eth0, loop: 0}"}, []string{
		`7:38: unknown key "loop" in media: want type, interface, port, group, ttl, device, baud or peers`,
	}},
	{"serial without device", []string{ucastMedium, "{type: serial, baud: 9600}"}, []string{
		"7:7: device is missing in media: write the serial line of this path, such as device: /dev/ttyS0",
	}},
	{"serial rate", []string{ucastMedium, "{type: serial, device: /dev/ttyS0, baud: 1200}"}, []string{
		"7:48: baud: 1200 is not a rate of serial lines: want 9600, 19200, 38400, 57600, 115200, 230400 or 460800",
	}},
	{"serial device", []string{ucastMedium, "{type: serial, device: ttyS0}"}, []string{
		`7:30: device: "ttyS0" is not an absolute path: begin it with /`,
	}},
	{"serial with interface and port", []string{ucastMedium, "{type: serial, device: /dev/ttyS0, interface: eth0, port: 694}"}, []string{
		"7:42: interface has no effect in a medium of type serial: remove it",
		"7:59: port has no effect in a medium of type serial: remove it",
	}},
	{"serial line twice", []string{"groups:", "    - {type: serial, device: /dev/ttyS0}\n    - {type: serial, device: /dev/ttyS0, baud: 9600}\ngroups:"}, []string{
		"11:30: media: /dev/ttyS0 is there already, in line 10: a second path needs another line",
	}},
	{"bcast beside ucast", []string{"groups:", "    - {type: bcast, interface: eth0}\ngroups:"}, []string{
		"10:32: media: eth0 port 694 is there already, in line 8: a second path needs another NIC or port",
	}},
	{"addresses incomplete", []string{"  media:", "  addresses: {node1: 192.0.2.1, node3: 192.0.2.3}\n  media:"}, []string{
		"6:3: node2 is missing in addresses: write the address of every node on the LAN of the real servers, such as node2: 192.0.2.1",
		`6:33: addresses: "node3" is not among nodes (node1, node2)`,
	}},
	{"addresses with one address", []string{"  media:", "  addresses: {node1: 192.0.2.1, node2: 192.0.2.1}\n  media:"}, []string{
		"6:40: addresses: 192.0.2.1 is the address of node1 already",
	}},
	{"address of a director is loopback", []string{"  media:", "  addresses: {node1: 192.0.2.1, node2: 127.0.0.2}\n  media:"}, []string{
		"6:40: node2: 127.0.0.2 is a loopback address: want one that the LAN can reach",
	}},
	{"address of a director is a real server's", []string{"  media:", "  addresses: {node1: 192.0.2.1, node2: 192.0.2.200}\n  media:"}, []string{
		"20:18: address: 192.0.2.200 is the director node2: a director cannot be its own real server yet",
	}},
	{"addresses of one director", []string{"[node1, node2]", "[node1]", "  media:\n    - type: ucast\n      interface: eth0\n      peers: {node1: 192.0.2.1, node2: 192.0.2.2}\n", "  addresses: {node1: 192.0.2.1}\n"}, []string{
		"6:3: addresses has no effect with one director: remove it",
	}},
	{"medium without peers", []string{"      peers: {node1: 192.0.2.1, node2: 192.0.2.2}\n", ""}, []string{
		"7:7: peers is missing in media: write the address of each director on this path, such as peers: {node1: 192.0.2.1, node2: 192.0.2.2}",
	}},
	{"medium twice", []string{"groups:", "    - {type: ucast, interface: eth0, peers: {node1: 192.0.2.1, node2: 192.0.2.2}}\ngroups:"}, []string{
		"10:32: media: eth0 port 694 is there already, in line 8: a second path needs another NIC or port",
	}},
	{"medium port", []string{"      interface: eth0\n", "      interface: eth0\n      port: 65536\n"}, []string{
		"9:13: port: 65536 is out of range: want 1 to 65535",
	}},
	{"peer missing", []string{", node2: 192.0.2.2}", "}"}, []string{
		"9:7: node2 is missing in peers: write the address of every node on this path, such as node2: 192.0.2.1",
	}},
	{"peer unknown", []string{"node2: 192.0.2.2}", "node2: 192.0.2.2, node9: 192.0.2.9}"}, []string{
		`9:51: peers: "node9" is not among nodes (node1, node2)`,
	}},
	{"peers with one address", []string{"192.0.2.2}", "192.0.2.1}"}, []string{
		"9:40: peers: 192.0.2.1 is the address of node1 already",
	}},
	{"peer by host name", []string{"192.0.2.2}", "node2.example.com}"}, []string{
		`9:40: node2: "node2.example.com" is not an IP address: write one such as 192.0.2.10; host names are not looked up`,
	}},
	{"interface name", []string{"      interface: eth0\n", "      interface: eth0:1\n"}, []string{
		`8:18: interface: "eth0:1" cannot be an interface: want its name as "ip link" shows it, up to 15 characters`,
	}},
	{"group without a name", []string{"  - name: web\n    preferred: node1", "  - preferred: node1"}, []string{
		"11:5: name is missing in groups: write a name for it, such as name: web",
	}},
	{"group twice", []string{"services:", "  - {name: web, vips: [{address: 192.0.2.102, interface: eth0}]}\nservices:"}, []string{
		"15:12: groups: the name web is taken, in line 11: give each group its own",
	}},
	{"group name reserved", []string{"name: web", "name: all"}, []string{
		`11:11: name: "all" means a set of groups in commands: choose another name`,
	}},
	{"group name", []string{"name: web", "name: my web"}, []string{
		`11:11: name: "my web" is not a name: want up to 64 letters, digits and . _ -`,
	}},
	{"preferred unknown", []string{"preferred: node1", "preferred: node3"}, []string{
		`12:16: preferred: "node3" is not among cluster.nodes (node1, node2)`,
	}},
	{"vips missing", []string{"    vips:\n      - {address: 192.0.2.101, interface: eth0}\n", ""}, []string{
		"11:5: vips is missing in groups: write at least one address, such as vips: [{address: 192.0.2.101, interface: eth0}]",
	}},
	{"vip twice", []string{"services:", "  - {name: db, vips: [{address: 192.0.2.101, interface: eth0}]}\nservices:"}, []string{
		"15:33: address: 192.0.2.101 is a VIP of group web already: an address is in one group only",
	}},
	{"vip without interface", []string{", interface: eth0}\nservices", "}\nservices"}, []string{
		"14:9: interface is missing in vips: write the NIC it lives on, such as interface: eth0",
	}},
	{"vip prefix length of IPv6", []string{"address: 192.0.2.101,", "address: '2001:db8::1/129',", "192.0.2.101:80", "'[2001:db8::1]:80'"}, []string{
		`14:19: address: the prefix length "129" of 2001:db8::1 is not 1 to 128: write 2001:db8::1/128`,
		"19:18: address: 192.0.2.200 is not of the family of 2001:db8::1: only a tunnel, forward ipip or gue, leads from one to the other",
		"20:19: address: 192.0.2.201 is not of the family of 2001:db8::1: only a tunnel, forward ipip or gue, leads from one to the other",
	}},
	{"vip link-local", []string{"address: 192.0.2.101,", "address: 'fe80::1',"}, []string{
		"14:19: address: fe80::1 is link-local, and nobody behind a router can reach it: want a global or a unique local address (fd00::/8)",
	}},
	{"vip with a zone", []string{"address: 192.0.2.101,", "address: '2001:db8::1%eth0',"}, []string{
		"14:19: address: 2001:db8::1%eth0 has a zone, which only link-local addresses need: write 2001:db8::1",
	}},
	{"vip IPv4 as IPv6", []string{"address: 192.0.2.101,", "address: '::ffff:192.0.2.101',"}, []string{
		"14:19: address: ::ffff:192.0.2.101 is an IPv4 address: write 192.0.2.101",
	}},
	{"vip prefix length", []string{"address: 192.0.2.101,", "address: 192.0.2.101/33,"}, []string{
		`14:19: address: the prefix length "33" of 192.0.2.101 is not 1 to 32: write 192.0.2.101/32`,
	}},
	{"vip multicast", []string{"address: 192.0.2.101,", "address: 224.0.0.81,"}, []string{
		"14:19: address: 224.0.0.81 is not the address of one machine",
	}},
	{"vip is a director's", []string{"address: 192.0.2.101,", "address: 192.0.2.2,", "virtual: 192.0.2.101:80", "virtual: 192.0.2.2:80"}, []string{
		"14:19: address: 192.0.2.2 is the own address of node2: a VIP must be free to move",
	}},
	{"virtual without port", []string{"192.0.2.101:80", "192.0.2.101"}, []string{
		`16:14: virtual: "192.0.2.101" has no port: write 192.0.2.101:80`,
	}},
	{"virtual of all ports without a port to check", []string{"192.0.2.101:80", "192.0.2.101:*"}, []string{
		"17:5: port is missing in check: write the port to check, such as port: 80, as the service has no port of its own; or check: {type: none}",
	}},
	{"virtual of all ports, a server's check without a port", []string{"192.0.2.101:80", "192.0.2.101:0", "{type: http, path: /ok, expect: ok}", "{type: none}", "weight: 2", "check: {type: tcp}"}, []string{
		"20:32: port is missing in check: write the port to check, such as port: 80, as the service has no port of its own; or check: {type: none}",
	}},
	{"virtual with a bad port", []string{"192.0.2.101:80", "192.0.2.101:65536"}, []string{
		`16:14: virtual: 192.0.2.101:65536: the port "65536" is not a number from 1 to 65535`,
	}},
	{"virtual with a range that is none", []string{"192.0.2.101:80", "192.0.2.101:90-80"}, []string{
		"16:14: virtual: 192.0.2.101:90-80: a range of ports goes from the lower to the higher one: write 192.0.2.101:80-90, or one port",
	}},
	{"virtual with half a range", []string{"192.0.2.101:80", "192.0.2.101:80-"}, []string{
		`16:14: virtual: 192.0.2.101:80-: the port "" is not a number from 1 to 65535`,
	}},
	{"virtual without an address", []string{"192.0.2.101:80", "'*:80'"}, []string{
		`16:14: virtual: "*:80" is not a VIP and a port: write one such as 192.0.2.101:80, in numbers`,
	}},
	{"ranges that overlap", []string{"192.0.2.101:80", "192.0.2.101:8000-8099", "dataplane:", "  - {virtual: '192.0.2.101:8099-8100', servers: [{address: 192.0.2.202}]}\ndataplane:"}, []string{
		"21:15: virtual: 192.0.2.101:8099-8100/tcp overlaps 192.0.2.101:8000-8099/tcp, in line 16: a port is in one range only",
	}},
	{"mark and address", []string{"    check:", "    fwmark: 7\n    protocol: tcp\n    check:"}, []string{
		"16:5: virtual has no effect with fwmark, whose service is every packet with that mark: remove one of them",
		"18:5: protocol has no effect with fwmark, whose service is every packet with that mark: remove one of them",
		"19:5: port is missing in check: write the port to check, such as port: 80, as the service has no port of its own; or check: {type: none}",
	}},
	{"mark 0, mark twice, marks of two families", []string{"virtual: 192.0.2.101:80", "fwmark: 0", "ok}", "ok, port: 80}", "dataplane:", `  - {fwmark: 7, check: {type: none}, servers: [{address: 192.0.2.202}]}
  - {fwmark: 7, check: {type: none}, servers: [{address: 192.0.2.202}]}
  - {fwmark: 7, check: {type: none}, servers: [{address: '2001:db8::2'}, {address: 192.0.2.202}]}
dataplane:`}, []string{
		"16:13: fwmark: 0 is out of range: want 1 to 4294967295",
		"22:14: fwmark: 7 is there already, in line 21: put its servers there",
		"23:14: fwmark: 2001:db8::2 and 192.0.2.202 are of two address families: make a service of each, with the same mark",
	}},
	{"mark with a netmask too long", []string{"virtual: 192.0.2.101:80", "fwmark: 7\n    persistent: {timeout: 1m, netmask: 64}", "ok}", "ok, port: 80}"}, []string{
		"16:13: fwmark: its netmask has 64 bits, more than the 32 of the clients' addresses",
	}},
	{"protocol of keepalived", []string{"    check:", "    protocol: fwm\n    check:"}, []string{
		`17:15: protocol: "fwm" is the key fwmark here: write fwmark: 7 in place of virtual and protocol`,
	}},
	{"flags without a scheduler that has some", []string{"    check:", "    scheduler_flags: [sh-port]\n    check:"}, []string{
		`17:23: scheduler_flags: "sh-port" has no effect with scheduler rr: only sh and mh have flags`,
	}},
	{"flags of another scheduler, and twice", []string{"    check:", "    scheduler: mh\n    scheduler_flags: [sh-port, mh-port, flag-2, flag-3]\n    check:"}, []string{
		`18:23: scheduler_flags: want mh-fallback or mh-port with scheduler mh, found "sh-port"`,
		"18:41: scheduler_flags: mh-port is there twice: remove one",
		`18:49: scheduler_flags: want mh-fallback or mh-port with scheduler mh, found "flag-3"`,
	}},
	{"persistent without a time", []string{"    check:", "    persistent: {netmask: 24}\n    check:"}, []string{
		"17:5: timeout is missing in persistent: write how long a client is bound to its server, such as timeout: 5m",
	}},
	{"persistent as a time", []string{"    check:", "    persistent: 600\n    check:"}, []string{
		`17:17: persistent: want keys and values, found "600"`,
	}},
	{"persistent for part of a second", []string{"    check:", "    persistent: {timeout: 1500ms}\n    check:"}, []string{
		"17:27: timeout: 1500ms is not a whole number of seconds",
	}},
	{"netmasks", []string{"    check:", "    persistent: {timeout: 1m, netmask: 255.0.255.0}\n    check:", "dataplane:", `  - {virtual: '192.0.2.101:81', persistent: {timeout: 1m, netmask: 0.0.0.0}, servers: [{address: 192.0.2.202}]}
  - {virtual: '192.0.2.101:82', persistent: {timeout: 1m, netmask: 33}, servers: [{address: 192.0.2.202}]}
  - {virtual: '192.0.2.101:83', persistent: {timeout: 1m, netmask: half}, servers: [{address: 192.0.2.202}]}
dataplane:`}, []string{
		"17:40: netmask: 255.0.255.0 is not a netmask: its ones must come before its zeros",
		"22:68: netmask: 0.0.0.0 would bind all clients to one server: want one such as 255.255.255.0",
		"23:68: netmask: 33 is more than the 32 bits of the clients' addresses",
		`24:68: netmask: "half" is not a netmask: write one such as 255.255.255.0, or the number of its bits`,
	}},
	{"one packet of tcp", []string{"    check:", "    one_packet: true\n    check:"}, []string{
		"17:17: one_packet is for udp, whose datagrams may each go their own way: tcp has connections, remove it",
	}},
	{"one packet, persistent", []string{"    check:", "    protocol: udp\n    one_packet: true\n    persistent: {timeout: 1m}\n    timeouts: {udp: 1m}\n    lost: keep\n    check:"}, []string{
		"18:17: one_packet sends each datagram to another server, persistent all of a client to one: remove one of them",
		"20:21: udp has no effect with one_packet, which keeps no connections: remove it",
		"21:11: lost has no effect with one_packet, which keeps no connections: remove it",
	}},
	{"quic of tcp", []string{"    check:", "    quic: {server_id_length: 4}\n    check:"}, []string{
		"17:30: quic is for udp: remove it, or write protocol: udp",
	}},
	{"quic of a mark", []string{"virtual: 192.0.2.101:80", "fwmark: 7", "    check:", "    quic: {server_id_length: 4}\n    check:", "ok}", "ok, port: 80}"}, []string{
		"17:30: quic has no effect with fwmark, whose packets only IPVS carries: remove one of them",
	}},
	{"quic by the packet", []string{"    check:", "    protocol: udp\n    one_packet: true\n    quic: {server_id_length: 4}\n    check:"}, []string{
		"19:30: quic keeps a connection on its server, one_packet sends each datagram to another: remove one of them",
	}},
	{"quic by the client", []string{"    check:", "    protocol: udp\n    persistent: {timeout: 1m}\n    quic: {server_id_length: 4}\n    check:"}, []string{
		"19:30: quic keeps a connection on its server, persistent all of a client address: remove one of them",
	}},
	{"quic without a length", []string{"    check:", "    protocol: udp\n    quic: {server_id: 0a}\n    check:"}, []string{
		`18:5: server_id_length is missing in quic: write how many bytes of a connection ID are the server's, such as server_id_length: 4`,
		`18:12: unknown key "server_id" in quic: want server_id_length`,
	}},
	{"quic with long IDs", []string{"    check:", "    protocol: udp\n    quic: {server_id_length: 9}\n    check:", "weight: 2", "server_id: 0a"}, []string{
		"18:30: server_id_length: 9 is out of range: want 1 to 8",
	}},
	{"server IDs", []string{"    check:", "    protocol: udp\n    quic: {server_id_length: 2}\n    fallback: {address: 192.0.2.209, server_id: 0B01}\n    check:",
		"{address: 192.0.2.201, weight: 2}", `{address: 192.0.2.201, server_id: 0b01}
      - {address: 192.0.2.202, server_id: '0B01'}
      - {address: 192.0.2.203, server_id: 0b}
      - {address: 192.0.2.204, server_id: web4}
      - {address: 192.0.2.205, server_id: 0b1}
      - {address: 192.0.2.206, server_id: ''}
      - {address: 192.0.2.207, server_id: 1234}`}, []string{
		"19:49: server_id: 0b01 is that of 192.0.2.201 already: give each server its own",
		"22:9: server_id is missing in servers: write the bytes by which its QUIC connection IDs name it, such as server_id: 0a0a",
		"24:43: server_id: 0b01 is that of 192.0.2.201 already: give each server its own",
		"25:43: server_id: 0b has 1 byte, server_id_length is 2: write 4 hexadecimal digits",
		`26:43: server_id: "web4" is no string of bytes: write each as two hexadecimal digits, such as 0a0b0c0d`,
		`27:43: server_id: "0b1" is no string of bytes: write each as two hexadecimal digits, such as 0a0b0c0d`,
		`28:43: server_id: "" is no string of bytes: write each as two hexadecimal digits, such as 0a0b0c0d`,
	}},
	{"a server ID without quic", []string{"weight: 2", "server_id: 0a0b0c"}, []string{
		"20:43: server_id has no effect in a service without quic: remove it, or write quic: {server_id_length: 3}",
	}},
	{"timeouts", []string{"    check:", "    timeouts: {tcp: 1ms, tcpfin: 90500ms, udp: 5m, syn: 1m}\n    check:"}, []string{
		"17:21: tcp: 1ms is too short: want 1s to 24h",
		"17:34: tcpfin: 90500ms is not a whole number of seconds",
		"17:48: udp has no effect in a service of tcp: remove it",
		`17:52: unknown key "syn" in timeouts: want tcp, tcpfin or udp`,
	}},
	{"lost", []string{"    check:", "    lost: rest\n    check:"}, []string{
		`17:11: lost: want reset, reschedule or keep, found "rest": did you mean "reset"?`,
	}},
	{"forward of ipvsadm", []string{"weight: 2", "forward: tunnel"}, []string{
		`20:41: forward: "tunnel" is called ipip here`,
	}},
	{"forward with what has no effect", []string{"weight: 2", "forward: ipip, port: 8080, tunnel_port: 6080, lower: 5"}, []string{
		"20:53: port has no effect with forward ipip, which leaves packets as they are: remove it, or write forward: masq",
		"20:72: tunnel_port has no effect with forward ipip: remove it, or write forward: gue",
		"20:85: lower has no effect without upper, the number of connections from which on the server gets no more",
	}},
	{"thresholds", []string{"weight: 2", "upper: 4, lower: 4"}, []string{
		"20:49: lower 4 must be less than upper 4: three quarters of it, 3, is usual",
	}},
	{"masq to a port of a service with many", []string{"192.0.2.101:80", "192.0.2.101:80-81", "weight: 2", "forward: masq, port: 8080"}, []string{
		"20:53: port: a service of many ports keeps them: remove it",
	}},
	{"masq to the other family", []string{"{address: 192.0.2.201, weight: 2}", "{address: '2001:db8::2', forward: masq}"}, []string{
		"20:19: address: 2001:db8::2 is not of the family of 192.0.2.101: only a tunnel, forward ipip or gue, leads from one to the other",
	}},
	{"fallback with thresholds", []string{"    servers:", "    fallback: {address: 192.0.2.202, upper: 1}\n    servers:"}, []string{
		"18:38: upper has no effect in fallback, which is alone and not checked: remove it",
	}},
	{"virtual by name", []string{"192.0.2.101:80", "www.example.com:80"}, []string{
		`16:14: virtual: "www.example.com:80" is not a VIP and a port: write one such as 192.0.2.101:80, in numbers`,
	}},
	{"virtual ipv6 without port", []string{"192.0.2.101:80", "'2001:db8::1'"}, []string{
		`16:14: virtual: "2001:db8::1" has no port: write '[2001:db8::1]:80'`,
	}},
	{"virtual ipv6 without quotes", []string{"192.0.2.101:80", "[2001:db8::1]:80"}, []string{
		"16:27: not YAML: a value is not possible here: check the indentation and the quotes",
	}},
	{"virtual missing", []string{"  - virtual: 192.0.2.101:80\n    check", "  - check"}, []string{
		"16:5: virtual is missing in services: write the address and port of the service, such as virtual: 192.0.2.101:80",
	}},
	{"virtual not a vip", []string{"192.0.2.101:80", "192.0.2.99:80"}, []string{
		"16:14: virtual: 192.0.2.99 is not a VIP of any group: add it to the vips of a group",
	}},
	{"service twice", []string{"dataplane:", "  - {virtual: '192.0.2.101:80', servers: [{address: 192.0.2.202}]}\ndataplane:"}, []string{
		"21:15: virtual: 192.0.2.101:80/tcp is there already, in line 16: put its servers there",
	}},
	{"protocol", []string{"    check:", "    protocol: icmp\n    check:"}, []string{
		`17:15: protocol: want tcp, udp or sctp, found "icmp"`,
	}},
	{"sctp without a check", []string{"    check: {type: http, path: /ok, expect: ok}", "    protocol: sctp"}, []string{
		"16:5: check is missing in services: write check: {type: none}, or a check of a tcp port: a sctp port cannot be checked by itself",
	}},
	{"udp without a check", []string{"    check: {type: http, path: /ok, expect: ok}", "    protocol: udp"}, []string{
		"16:5: check is missing in services: write check: {type: none}, or a check of a tcp port: a udp port cannot be checked by itself",
	}},
	{"scheduler unknown", []string{"    check:", "    scheduler: random\n    check:"}, []string{
		`17:16: scheduler: want rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh or twos, found "random"`,
	}},
	{"servers missing", []string{"    servers:\n      - address: 192.0.2.200\n      - {address: 192.0.2.201, weight: 2}\n", ""}, []string{
		"16:5: servers is missing in services: write at least one real server, such as servers: [{address: 192.0.2.200}]",
	}},
	{"server twice", []string{"192.0.2.201", "192.0.2.200"}, []string{
		"20:19: address: 192.0.2.200 is a server of this service already, in line 19: remove one",
	}},
	{"server is the vip", []string{"192.0.2.201", "192.0.2.101"}, []string{
		"20:19: address: 192.0.2.101 is the VIP itself: write the server's own address",
	}},
	{"server is another vip", []string{"      - {address: 192.0.2.101, interface: eth0}", "      - {address: 192.0.2.101, interface: eth0}\n      - {address: 192.0.2.201, interface: eth0}"}, []string{
		"21:19: address: 192.0.2.201 is a VIP, of group web: write the server's own address",
	}},
	{"server is a director", []string{"192.0.2.201", "192.0.2.1"}, []string{
		"20:19: address: 192.0.2.1 is the director node1: a director cannot be its own real server yet",
	}},
	{"server with a port", []string{"192.0.2.201", "'192.0.2.201:8080'"}, []string{
		`20:19: address: "192.0.2.201:8080" has a port: the packets keep the port of the service, write the address alone (with forward: masq the key port is the server's)`,
	}},
	{"server on loopback", []string{"192.0.2.201", "127.0.0.1"}, []string{
		"20:19: address: 127.0.0.1 is a loopback address: want one that the LAN can reach",
	}},
	{"server with a prefix", []string{"192.0.2.201", "192.0.2.201/24"}, []string{
		`20:19: address: "192.0.2.201/24" has a prefix length: write the address alone`,
	}},
	{"server without address", []string{"{address: 192.0.2.201, weight: 2}", "{weight: 2}"}, []string{
		"20:9: address is missing in servers: write the server's own address, such as address: 192.0.2.200",
	}},
	{"weight too large", []string{"weight: 2", "weight: 65536"}, []string{
		"20:40: weight: 65536 is out of range: want 0 to 65535",
	}},
	{"weight negative", []string{"weight: 2", "weight: -1"}, []string{
		"20:40: weight: -1 is out of range: want 0 to 65535",
	}},
	{"weight enormous", []string{"weight: 2", "weight: 99999999999999999999"}, []string{
		"20:40: weight: 99999999999999999999 is out of range: want 0 to 65535",
	}},
	{"fallback with weight", []string{"    servers:", "    fallback: {address: 192.0.2.202, weight: 1}\n    servers:"}, []string{
		"18:38: weight has no effect in fallback, which is alone and not checked: remove it",
	}},
	{"fallback is a server", []string{"    servers:", "    fallback: {address: 192.0.2.201}\n    servers:"}, []string{
		"18:25: address: 192.0.2.201 is a server of this service already: the fallback is another one",
	}},
	{"fallback is the vip", []string{"    servers:", "    fallback: {address: 192.0.2.101}\n    servers:"}, []string{
		"18:25: address: 192.0.2.101 is the VIP itself: write the server's own address",
	}},
	{"check type to come", []string{"type: http", "type: https"}, []string{
		`17:19: type: "https" is not there yet: use tcp, http or none`,
	}},
	{"check type of ldirectord", []string{"type: http", "type: negotiate"}, []string{
		`17:19: type: "negotiate" is called http here`,
	}},
	{"check type none with the rest", []string{"type: http", "type: none, interval: 1s"}, []string{
		"17:25: interval has no effect in a check of type none: remove it",
		"17:39: path has no effect in a check of type none: write type: http, or remove it",
		"17:50: expect has no effect in a check of type none: write type: http, or remove it",
	}},
	{"check type tcp with a path", []string{"type: http", "type: tcp"}, []string{
		"17:24: path has no effect in a check of type tcp: write type: http, or remove it",
		"17:35: expect has no effect in a check of type tcp: write type: http, or remove it",
	}},
	{"check path", []string{"path: /ok", "path: ok"}, []string{
		`17:31: path: "ok" does not begin with /: write "/ok"`,
	}},
	{"check path with a space", []string{"path: /ok", "path: /o k"}, []string{
		`17:31: path: "/o k" cannot be asked for: write special characters as %XX, a space as %20`,
	}},
	{"check expression", []string{"expect: ok", "expect: '(ok'"}, []string{
		`17:44: expect: "(ok" is not a regular expression, missing closing ) in "(ok": put a \ before characters that stand for themselves`,
	}},
	{"check expression of perl", []string{"expect: ok", "expect: '(?!ok)'"}, []string{
		`17:44: expect: "(?!ok)" is not a regular expression, invalid or unsupported Perl syntax in "(?!": look-ahead, look-behind and back-references of Perl do not exist here (RE2)`,
	}},
	{"check of head with a body", []string{"expect: ok", "expect: ok, method: HEAD"}, []string{
		"17:44: expect needs a body, and the answer to HEAD has none: use method GET",
	}},
	{"check method", []string{"expect: ok", "method: POST"}, []string{
		`17:44: method: "POST" changes things on the server: use GET or HEAD`,
	}},
	{"check method in small letters", []string{"expect: ok", "method: get"}, []string{
		`17:44: method: "get" must be in capitals: write GET`,
	}},
	{"check host", []string{"expect: ok", "virtual_host: 'http://www.a.com/'"}, []string{
		`17:50: virtual_host: "http://www.a.com/" is a URL: write the host name alone, and path: for the rest`,
	}},
	{"check timeout", []string{"expect: ok", "timeout: 5s"}, []string{
		"17:45: timeout 5s is longer than interval 2s: a check must end before the next begins",
	}},
	{"check rise and fall", []string{"expect: ok", "rise: 0, fall: two"}, []string{
		"17:42: rise: 0 is out of range: want 1 to 1000",
		`17:51: fall: want a number from 1 to 1000, found "two"`,
	}},
	{"check of a server", []string{"weight: 2", "check: {port: 0, timeout: 0s}"}, []string{
		"20:46: port: 0 is out of range: want 1 to 65535",
		"20:58: timeout: 0s is too short: want 1ms to 1h",
	}},
	{"mode", []string{"dataplane: {interface: eth0}", "dataplane: {interface: eth0, mode: nativ}"}, []string{
		`21:36: mode: want auto, native, generic or ipvs, found "nativ": did you mean "native"?`,
	}},
	{"mode xdp", []string{"dataplane: {interface: eth0}", "dataplane: {interface: eth0, mode: xdp}"}, []string{
		`21:36: mode: "xdp" is the rule: use auto, or native, or generic`,
	}},
	{"interface missing", []string{"dataplane: {interface: eth0}\n", ""}, []string{
		"1:1: interface is missing in dataplane: write the NIC that the clients' packets come in by, such as interface: eth0",
	}},
	{"interface and interfaces", []string{"dataplane: {interface: eth0}", "dataplane: {interface: eth0, interfaces: [eth1]}"}, []string{
		"21:30: interface and interfaces are both written: put all NICs under interfaces and remove interface",
	}},
	{"interfaces of nothing", []string{"dataplane: {interface: eth0}", "dataplane: {interfaces: []}"}, []string{
		"21:13: interfaces is empty: name the NICs that the clients' packets come in by, and those that lead to real servers",
	}},
	{"interfaces twice, and none", []string{"dataplane: {interface: eth0}", "dataplane: {interfaces: [eth0, eth0, 'a b']}"}, []string{
		"21:32: interfaces: eth0 is named twice: remove one",
		`21:38: interfaces: "a b" cannot be an interface: want its name as "ip link" shows it, up to 15 characters`,
	}},
	{"interfaces are no list", []string{"dataplane: {interface: eth0}", "dataplane: {interfaces: eth0}"}, []string{
		`21:25: interfaces: want a list, found "eth0": begin each entry with "- "`,
	}},
	{"too many interfaces", []string{"dataplane: {interface: eth0}", "dataplane: {interfaces: [a, b, c, d, e, f, g, h, i, j, k, l, m, n1, o, p, q]}"}, []string{
		"21:75: interfaces: 17 of them, at most 16 are possible",
	}},
	{"pin", []string{"dataplane: {interface: eth0}", "dataplane: {interface: eth0, pin: systole}"}, []string{
		`21:35: pin: "systole" is not an absolute path: begin it with /`,
	}},
	{"flows not a power of two", []string{"dataplane: {interface: eth0}", "dataplane: {interface: eth0, flows: 1000000}"}, []string{
		"21:37: flows: 1000000 is not a power of two: write 524288 or 1048576",
	}},
	{"flows too few", []string{"dataplane: {interface: eth0}", "dataplane: {interface: eth0, flows: 512}"}, []string{
		"21:37: flows: 512 is out of range: want 1024 to 16777216",
	}},
	{"listen without port", []string{"dataplane:", "metrics: {listen: 127.0.0.1}\ndataplane:"}, []string{
		`21:19: listen: "127.0.0.1" is not host:port: write one such as 127.0.0.1:9101`,
	}},
	{"listen port", []string{"dataplane:", "metrics: {listen: '127.0.0.1:http'}\ndataplane:"}, []string{
		`21:19: listen: the port "http" is not a number from 1 to 65535`,
	}},
	{"listen host", []string{"dataplane:", "metrics: {listen: 'a b:80'}\ndataplane:"}, []string{
		`21:19: listen: "a b" is not a host: write one such as 127.0.0.1`,
	}},
	{"socket", []string{"dataplane:", "control: {socket: systole.sock}\ndataplane:"}, []string{
		`21:19: socket: "systole.sock" is not an absolute path: begin it with /`,
	}},
	{"socket too long", []string{"dataplane:", `control: {socket: /xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx}
dataplane:`}, []string{
		"21:19: socket: the path has 108 bytes: a socket's has at most 107",
	}},
	{"alias without anchor", []string{"expect: ok", "expect: *.html"}, []string{
		"17:44: *.html refers to an anchor &.html that is not there; text that begins with * must stand in quotes",
	}},
	{"anchor twice", []string{"expect: ok", "expect: &a ok", "weight: 2", "weight: &a 2"}, []string{
		"20:40: the anchor &a is set twice: give each its own name",
	}},
	{"tag", []string{"expect: ok", "expect: !!str ok"}, []string{
		"17:44: YAML tags are not supported: remove !!str; text that begins with ! must stand in quotes",
	}},
	{"fault behind an alias, once", []string{"    check: {type: http, path: /ok, expect: ok}", "    check: &c {type: http, path: ok}", "weight: 2", "check: *c"}, []string{
		`17:34: path: "ok" does not begin with /: write "/ok"`,
	}},
	{"second document", []string{"dataplane:", "---\ndataplane:"}, []string{
		`22:1: a second document starts here: one file holds one configuration, remove the line "---" or "..." above`,
	}},
	{"directive", []string{"node: node1", "%YAML 1.2\n---\nnode: node1"}, []string{
		"1:1: YAML directives (lines that begin with %) are not supported: remove it",
	}},
	{"tab", []string{"  deadtime", "\tdeadtime", "    preferred", "    \tpreferred"}, []string{
		"4:1: a tab in the indentation: use spaces",
		"12:5: a tab in the indentation: use spaces",
	}},
	{"control character", []string{"expect: ok", "expect: o\x07k"}, []string{
		"17:45: control character U+0007: remove it",
	}},
	{"open bracket", []string{"[node1, node2]", "[node1, node2"}, []string{
		`6:3: not YAML: "," or "]" is missing here`,
	}},
	{"open brace", []string{"weight: 2}", "weight: 2"}, []string{
		`21:1: not YAML: "," or "}" is missing here`,
	}},
	{"open quote", []string{"expect: ok", `expect: "ok`}, []string{
		`17:44: not YAML: a quote (") that is not closed`,
	}},
	{"colon without space", []string{"keepalive: 1s", "keepalive:1s"}, []string{
		`3:3: not YAML: this is not "key: value": write a colon and a space after the key`,
	}},
	{"indentation", []string{"  deadtime", "   deadtime"}, []string{
		`3:14: not YAML: "key: value" is not possible here: check the indentation, and put text that has ": " in it in quotes`,
	}},
	{"two colons", []string{"name: web", "name: web: b"}, []string{
		`11:11: not YAML: "key: value" is not possible here: check the indentation, and put text that has ": " in it in quotes`,
	}},
	{"reserved character", []string{"name: web", "name: @web"}, []string{
		"11:11: not YAML: text that begins with @ or ` must stand in quotes",
	}},
	{"groups misspelt", []string{"groups:", "gruops:"}, []string{
		`10:1: unknown key "gruops" at the top level: did you mean "groups"?`,
	}},
	{"server as bare address in a list", []string{"{address: 192.0.2.201, weight: 2}", "192.0.2.201"}, []string{
		"20:9: servers: want keys and values: write {address: 192.0.2.201}",
	}},
	{"cluster misspelt", []string{"cluster:", "clutser:"}, []string{
		`2:1: unknown key "clutser" at the top level: did you mean "cluster"?`,
	}},
	{"groups is text", []string{"groups:\n  - name: web\n    preferred: node1\n    vips:\n      - {address: 192.0.2.101, interface: eth0}\n", "groups: web\n"}, []string{
		`10:9: groups: want a list, found "web": begin each entry with "- "`,
	}},
	{"circle of aliases", []string{"weight: 2", "check: &c {port: *c}"}, []string{
		"20:42: port: want a single value, found keys and values",
	}},
}

// badWhole are files that do not look like base at all.
var badWhole = []struct {
	name, file string
	want       []string
}{
	{"empty", "", []string{
		`1:1: the file is empty: write at least "cluster:" with the names of its "nodes:"`,
	}},
	{"nothing but a comment", "# nothing\n\n", []string{
		`1:1: the file is empty: write at least "cluster:" with the names of its "nodes:"`,
	}},
	{"empty document", "---\n", []string{
		`1:1: the file is empty: write at least "cluster:" with the names of its "nodes:"`,
	}},
	{"text", "hello\n", []string{
		`1:1: this is not a configuration: want keys and values such as "cluster:", found "hello"`,
	}},
	{"a list", "- a\n- b\n", []string{
		`1:1: this is not a configuration: want keys and values such as "cluster:", found a list`,
	}},
	{"null", "~\n", []string{
		`1:1: this is not a configuration: want keys and values such as "cluster:", found nothing`,
	}},
	{"html", "<html>\n<body class=\"x\">\n", []string{
		`1:1: this is not a configuration: want keys and values such as "cluster:", found "<html> <body class=\"x\">"`,
	}},
	{"ini", "[cluster]\nkeepalive = 1\n", []string{
		"2:1: not YAML: a value is not possible here: check the indentation and the quotes",
	}},
	{"ha.cf", "keepalive 1\ndeadtime 10\nnode node1 node2\n", []string{
		`1:1: this is not a configuration: want keys and values such as "cluster:", found "keepalive 1 deadtime 10 node node1 node2"`,
	}},
	{"json is yaml", "{\"node\": \"node1\", \"cluster\": {\"nodes\": \"node1\"}}\n", []string{
		`1:40: nodes: want a list, found "node1": begin each entry with "- "`,
	}},
	{"not UTF-8", "node: n\xf6de\n", []string{
		"1:8: the file is not UTF-8 text (byte 0xf6): save it as UTF-8",
	}},
	{"UTF-16", "\xff\xfen\x00o\x00", []string{
		"1:1: the file is not UTF-8 text (byte 0xff): it looks like UTF-16, save it as UTF-8",
	}},
	{"NUL", "a\n\x00", []string{
		"2:1: control character U+0000: remove it",
	}},
	{"deep", "a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", []string{
		"1:36: nested more than 32 levels deep: this is no configuration",
	}},
	{"deep dashes", "- - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - a", []string{
		"1:65: nested more than 32 levels deep: this is no configuration",
	}},
}
