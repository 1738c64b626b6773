package membership

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"systole/hb/wire"
)

// Type is the type of our messages.
const Type = "systole-view"

const (
	maxNodes   = 100 // heartbeat-behaviour.md section 5.1
	maxNameLen = 99  // heartbeat-wire.md section 4
	// maxNumber keeps sums from overflowing.
	maxNumber = 1 << 62
)

// ErrMessage is wrapped by the errors of Receive; the text names the field.
var ErrMessage = errors.New("bad " + Type + " message")

// report is what a node says of itself. Lists are sorted. It is not changed
// once made.
type report struct {
	about       string
	gen, serial uint64
	alive       []string
	votes       uint64
	accepted    ID
	members     []string // of accepted
	installed   ID
	ask         bool
	echo        []echo
}

// echo says that node's report with that serial, which asked, was heard.
type echo struct {
	node   string
	serial uint64
}

// newer: r was made after s.
func (r *report) newer(gen, serial uint64) bool {
	return cmp.Or(cmp.Compare(r.gen, gen), cmp.Compare(r.serial, serial)) > 0
}

// hears: r's node hears name.
func (r *report) hears(name string) bool { return has(r.alive, name) }

// message is the report in its wire form. A report that is passed on neither
// asks nor answers.
func (r *report) message(own bool) wire.Message {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	m := wire.New(Type,
		"about", r.about, "gen", number(r.gen), "serial", number(r.serial),
		"alive", strings.Join(r.alive, " "), "votes", number(r.votes),
		"accepted", r.accepted.String(), "members", strings.Join(r.members, " "), "installed", r.installed.String())
	if own && r.ask {
		m.Set("ask", "1")
	}
	if own && len(r.echo) > 0 {
		var pairs []string
		for _, e := range r.echo {
			pairs = append(pairs, e.node+":"+number(e.serial))
		}
		m.Set("echo", strings.Join(pairs, " "))
	}
	return m
}

// parse is the reverse of message. from is who sent it.
func parse(from string, m wire.Message) (*report, error) {
	p := parser{m: m}
	r := &report{
		about: p.name("about"), gen: p.number("gen"), serial: p.number("serial"),
		alive: p.names("alive"), votes: p.number("votes"),
		accepted: p.id("accepted"), members: p.names("members"), installed: p.id("installed"),
	}
	ask, asks := m.Get("ask")
	r.ask = ask == "1"
	r.echo = p.echoes()
	switch {
	case p.err != nil:
		return nil, p.err
	case asks && !r.ask:
		return nil, fmt.Errorf("%w: field ask=%.40q: want 1, or no field", ErrMessage, ask)
	case r.about != from && (r.ask || r.echo != nil):
		return nil, fmt.Errorf("%w: field about=%q: %s passes the report on, and so cannot ask or answer", ErrMessage, r.about, from)
	case !has(r.alive, r.about):
		return nil, fmt.Errorf("%w: field alive lacks %s itself", ErrMessage, r.about)
	case !has(r.members, r.about) || !has(r.members, r.accepted.Coordinator):
		return nil, fmt.Errorf("%w: field members lacks %s itself or the coordinator %s", ErrMessage, r.about, r.accepted.Coordinator)
	}
	return r, nil
}

// parser keeps the first error.
type parser struct {
	m   wire.Message
	err error
}

func (p *parser) fail(field, value, want string) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: field %s=%.40q: want %s", ErrMessage, field, value, want)
	}
}

func (p *parser) number(field string) uint64 {
	text, _ := p.m.Get(field)
	n, ok := parseNumber(text)
	if !ok {
		p.fail(field, text, "a decimal number above 0")
	}
	return n
}

func parseNumber(text string) (uint64, bool) {
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil && n > 0 && n <= maxNumber
}

func goodName(name string) bool {
	return name != "" && len(name) <= maxNameLen && strings.ToLower(name) == name &&
		!strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })
}

func (p *parser) name(field string) string {
	name, _ := p.m.Get(field)
	if !goodName(name) {
		p.fail(field, name, "the name of a node")
	}
	return name
}

// names is sorted.
func (p *parser) names(field string) []string {
	text, _ := p.m.Get(field)
	names := strings.Fields(text)
	slices.Sort(names)
	switch {
	case len(names) == 0 || len(names) > maxNodes:
		p.fail(field, text, fmt.Sprintf("1 to %d names", maxNodes))
	case !slices.Equal(slices.Compact(slices.Clone(names)), names):
		p.fail(field, text, "each name once")
	case slices.ContainsFunc(names, func(n string) bool { return !goodName(n) }):
		p.fail(field, text, "names of nodes")
	}
	return names
}

func (p *parser) id(field string) ID {
	text, _ := p.m.Get(field)
	number, rest, _ := strings.Cut(text, ":")
	gen, name, _ := strings.Cut(rest, ":")
	id := ID{Coordinator: name}
	var ok1, ok2 bool
	id.Number, ok1 = parseNumber(number)
	id.Generation, ok2 = parseNumber(gen)
	if !ok1 || !ok2 || !goodName(name) {
		p.fail(field, text, "number:generation:coordinator")
	}
	return id
}

func (p *parser) echoes() []echo {
	text, ok := p.m.Get("echo")
	if !ok {
		return nil
	}
	var list []echo
	for _, pair := range strings.Fields(text) {
		i := strings.LastIndexByte(pair, ':')
		serial, ok := parseNumber(pair[i+1:])
		if i < 0 || !ok || !goodName(pair[:i]) || len(list) == maxNodes {
			p.fail("echo", pair, fmt.Sprintf("node:serial, at most %d", maxNodes))
			return nil
		}
		list = append(list, echo{pair[:i], serial})
	}
	if list == nil {
		p.fail("echo", text, "node:serial")
	}
	return list
}
