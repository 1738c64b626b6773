package config

import "strings"

// elsewhere are the words that heartbeat, ldirectord, keepalived and haproxy
// have for our keys: people come with them.
var elsewhere = map[string]string{
	"addr": "address", "ip": "address", "vip": "virtual", "virtual_server": "virtual", "listen_address": "listen",
	"backends": "servers", "real": "servers", "reals": "servers", "real_server": "servers", "real_servers": "servers",
	"lb_algo": "scheduler", "sched": "scheduler", "balance": "scheduler", "lvs_sched": "scheduler",
	"sorry_server": "fallback", "healthcheck": "check", "health_check": "check",
	"checktype": "type", "checkinterval": "interval", "delay_loop": "interval", "inter": "interval",
	"checktimeout": "timeout", "negotiatetimeout": "timeout", "connect_timeout": "timeout",
	"checkport": "port", "connect_port": "port", "udpport": "port", "failurecount": "fall", "retry": "fall",
	"request": "path", "url": "path", "uri": "path", "receive": "expect", "regex": "expect",
	"virtualhost": "virtual_host", "host": "virtual_host", "httpmethod": "method",
	"dev": "interface", "nic": "interface", "node": "nodes", "virtual_ipaddress": "vips", "virtual_ips": "vips",
	"owner": "preferred", "failback": "auto_failback", "nice_failback": "auto_failback",
	"forwarding": "forward", "lb_kind": "forward", "lvs_method": "forward", "gate": "forward", "ops": "one_packet", "fwm": "fwmark", "mark": "fwmark",
	"persistence": "persistent", "persistence_timeout": "persistent", "persistence_granularity": "netmask", "granularity": "netmask", "mask": "netmask",
	"schedflags": "scheduler_flags", "flags": "scheduler_flags", "uthreshold": "upper", "lthreshold": "lower", "tun_port": "tunnel_port",
	"data_plane": "dataplane", "xdp": "dataplane", "prometheus": "metrics",
}

// suggest returns the word somebody who wrote got most likely meant, "" if
// none is near.
func suggest(got string, words []string) string {
	norm := strings.NewReplacer("-", "_", " ", "_").Replace(strings.ToLower(got))
	meant := elsewhere[norm]
	best, bestDistance := "", 1+min(2, len(norm)/3)
	for _, w := range words {
		if w == meant {
			return w
		}
		if n := distance(norm, w); n < bestDistance {
			best, bestDistance = w, n
		}
	}
	return best
}

// distance is the number of letters to add, remove or change (Levenshtein),
// where two neighbours that changed places count once.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(b)]
}
