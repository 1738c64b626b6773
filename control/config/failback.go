package config

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// failback is the value of auto_failback: true or false, or heartbeat's words,
// one of which is about how an old heartbeat is spoken to.
type failback struct{ on, legacy bool }

func failbackWord(s scalar) (failback, error) {
	if s.kind == ast.BoolType {
		return failback{on: strings.EqualFold(s.text, "true")}, nil
	}
	switch s.text {
	case "on":
		return failback{on: true}, nil
	case "off":
		return failback{}, nil
	case "legacy":
		return failback{on: true, legacy: true}, nil
	}
	if hint := suggest(s.text, []string{"on", "off", "legacy"}); hint != "" {
		return failback{}, fmt.Errorf("want true, false or legacy, found %q: did you mean %q?", s.text, hint)
	}
	return failback{}, fmt.Errorf("want true, false or legacy, found %q", s.text)
}

// Failback is the word for what auto_failback says: "on", "off" or "legacy".
func (c Cluster) Failback() string {
	switch {
	case c.Legacy:
		return "legacy"
	case c.AutoFailback:
		return "on"
	}
	return "off"
}

// What becomes of the groups in a partition, and what it takes.
const (
	AtLeastOne = "at-least-one"
	AtMostOne  = "at-most-one"
)

// partition reads cluster.partition. Nobody would own anything where nothing
// says who has quorum.
func (d *decoder) partition(m *mapping) string {
	p := read(m, "partition", AtLeastOne, oneOf([]string{AtLeastOne, AtMostOne}, nil))
	if p.val == AtMostOne && !m.has("quorum") {
		d.errorf(p.at, "partition: %s needs to know who has quorum: configure cluster.quorum with kind tie_breaker and a ping node, such as the gateway, as its tie_breaker; or leave partition out (%s)", AtMostOne, AtLeastOne)
	}
	return p.val
}

// firstResource is the key haresources of a group.
func firstResource(s scalar) (string, error) {
	v, err := text(s)
	switch {
	case err != nil:
		return "", err
	case strings.ContainsAny(v, " \t\r\n=") || len(v) > 200:
		return "", fmt.Errorf("%q is not one resource: write the first one of the group's line in haresources, such as IPaddr2::192.0.2.101/24/eth0", v)
	}
	return v, nil
}

// Key is the name of the group to a heartbeat node with auto_failback legacy.
func (g Group) Key() string {
	if g.Haresources == "" && len(g.VIPs) > 0 {
		return g.VIPs[0].Addr.String()
	}
	return g.Haresources
}
