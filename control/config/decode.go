package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// The library's decoder stops at the first fault and forgets where a value
// stood. So the nodes are walked here: a mapping is asked for its keys one by
// one, each answer knows its place, and what was never asked for is unknown.

// maxNodes bounds what aliases of aliases can expand to.
const maxNodes = 1 << 18

type pos struct{ line, col int }

func position(n ast.Node) pos {
	// A block mapping's own token is its first colon; people look at the key.
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return position(m.Values[0].Key)
	}
	return tokenPosition(n.GetToken())
}

func tokenPosition(t *token.Token) pos {
	if t == nil || t.Position == nil {
		return pos{1, 1}
	}
	return pos{max(1, t.Position.Line), max(1, t.Position.Column)}
}

type decoder struct {
	file    string
	errs    Errors
	anchors map[string]ast.Node // a name -> what it stands for
	nodes   int                 // visited so far
}

// errorf adds a fault. One fault is one line, whatever the file puts into it.
func (d *decoder) errorf(at pos, format string, args ...any) {
	msg := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")
	d.errs = append(d.errs, Error{d.file, at.line, at.col, msg})
}

type visitor func(ast.Node)

func (v visitor) Visit(n ast.Node) ast.Visitor { v(n); return v }

func (d *decoder) collectAnchors(root ast.Node) {
	d.anchors = make(map[string]ast.Node)
	ast.Walk(visitor(func(n ast.Node) {
		a, ok := n.(*ast.AnchorNode)
		if !ok {
			return
		}
		name := a.Name.GetToken().Value
		if _, twice := d.anchors[name]; twice {
			d.errorf(position(a), "the anchor &%s is set twice: give each its own name", name)
			return
		}
		d.anchors[name] = a.Value
	}), root)
}

// resolve looks behind anchors and aliases; nil if there is nothing there, or
// something we do not read, which has then been reported.
func (d *decoder) resolve(n ast.Node) ast.Node {
	d.nodes++
	if d.nodes == maxNodes {
		d.errorf(position(n), "the aliases expand to more than %d values: this is no configuration", maxNodes)
	}
	if d.nodes >= maxNodes {
		return nil
	}
	for range maxDepth {
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
		case *ast.AliasNode:
			name := v.Value.GetToken().Value
			target, ok := d.anchors[name]
			if !ok {
				d.errorf(position(v), "*%s refers to an anchor &%s that is not there; text that begins with * must stand in quotes", name, name)
				return nil
			}
			n = target
		case *ast.TagNode:
			d.errorf(position(v), "YAML tags are not supported: remove %s; text that begins with ! must stand in quotes", v.GetToken().Value)
			return nil
		default:
			return n
		}
	}
	d.errorf(position(n), "aliases that lead to each other in a circle")
	return nil
}

// kindOf names what a node is, for messages.
func kindOf(n ast.Node) string {
	switch v := n.(type) {
	case *ast.MappingNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	case ast.ScalarNode:
		text := []rune(scalarOf(v).text)
		if len(text) > 40 {
			return fmt.Sprintf("%q ...", string(text[:40]))
		}
		return fmt.Sprintf("%q", string(text))
	}
	return n.Type().YAMLName()
}

// A mapping is a YAML mapping while its keys are being asked for.
type mapping struct {
	d       *decoder
	what    string // its own key, for messages; "" for the document
	at      pos    // where a missing key is reported
	bad     bool   // not a mapping: nothing in it is worth reporting
	entries []*entry
	asked   []string // the keys there are, in the order of asking
	lacks   []lack
}

// A lack is a key that has to be there and is not.
type lack struct{ key, example string }

type entry struct {
	key   string
	at    pos // of the key
	value ast.Node
	used  bool
}

// mapping reads n, the value of the key what, whose place is at.
func (d *decoder) mapping(n ast.Node, what string, at pos) *mapping {
	m := &mapping{d: d, what: what, at: at}
	n = d.resolve(n)
	if n == nil {
		m.bad = true
		return m
	}
	node, ok := n.(*ast.MappingNode)
	if !ok {
		m.bad = true
		switch {
		case n.Type() == ast.NullType && what != "":
			d.errorf(at, "%s has no value: give it one, or remove the key", what)
		case what == "":
			d.errorf(position(n), `this is not a configuration: want keys and values such as "cluster:", found %s`, kindOf(n))
		default:
			d.errorf(position(n), "%s: want keys and values, found %s", what, kindOf(n))
		}
		return m
	}
	seen := make(map[string]*entry, len(node.Values))
	for _, v := range node.Values {
		at := position(v.Key)
		key, ok := v.Key.(*ast.StringNode)
		if !ok {
			if v.Key.Type() == ast.MergeKeyType {
				d.errorf(at, `merge keys ("<<") are not supported: write the keys out, or use the whole mapping by an alias`)
			} else {
				d.errorf(at, "a key must be plain text: put %s in quotes", v.Key.GetToken().Value)
			}
			continue
		}
		if e := seen[key.Value]; e != nil {
			d.errorf(at, "%s is written twice, first in line %d: remove one", key.Value, e.at.line)
			continue
		}
		e := &entry{key: key.Value, at: at, value: v.Value}
		seen[key.Value] = e
		m.entries = append(m.entries, e)
	}
	return m
}

func (m *mapping) has(key string) bool {
	return slices.ContainsFunc(m.entries, func(e *entry) bool { return e.key == key })
}

// near tells whether one of the unknown keys looks like a misspelt key: its
// own report is enough.
func (m *mapping) near(key string) bool {
	return slices.ContainsFunc(m.entries, func(e *entry) bool {
		return !e.used && suggest(e.key, []string{key}) != ""
	})
}

// take returns the entry of a key, nil if it is not written.
func (m *mapping) take(key string) *entry {
	m.asked = append(m.asked, key)
	for _, e := range m.entries {
		if e.key == key {
			e.used = true
			return e
		}
	}
	return nil
}

// sub reads the mapping under a key; without it, an empty one at the same
// place, so that defaults and missing keys are found in one way.
func (m *mapping) sub(key string) *mapping {
	e := m.take(key)
	if e == nil {
		return &mapping{d: m.d, what: key, at: m.at, bad: m.bad || m.near(key)}
	}
	return m.d.mapping(e.value, key, e.at)
}

// missing notes for done that a key has to be there. example is how to write it.
func (m *mapping) missing(key, example string) {
	m.lacks = append(m.lacks, lack{key, example})
}

// done reports the keys nobody asked for and those that are missing.
func (m *mapping) done() {
	for _, l := range m.lacks {
		if m.bad || m.near(l.key) {
			continue
		}
		where := ""
		if m.what != "" {
			where = " in " + m.what
		}
		m.d.errorf(m.at, "%s is missing%s: write %s", l.key, where, l.example)
	}
	for _, e := range m.entries {
		if e.used {
			continue
		}
		where := "at the top level"
		if m.what != "" {
			where = "in " + m.what
		}
		if hint := suggest(e.key, m.asked); hint != "" {
			m.d.errorf(e.at, "unknown key %q %s: did you mean %q?", e.key, where, hint)
		} else {
			m.d.errorf(e.at, "unknown key %q %s: want %s", e.key, where, anyOf(m.asked))
		}
	}
}

// item reads an entry of the list under the key what.
func (d *decoder) item(n ast.Node, what string) *mapping {
	at := position(n)
	switch v := d.resolve(n).(type) {
	case *ast.NullNode:
		d.errorf(at, "%s: an empty entry: remove the \"-\"", what)
		return &mapping{d: d, what: what, at: at, bad: true}
	case *ast.StringNode:
		if _, err := prefix(scalarOf(v)); err == nil {
			d.errorf(position(v), "%s: want keys and values: write {address: %s}", what, v.Value)
			return &mapping{d: d, what: what, at: at, bad: true}
		}
	}
	return d.mapping(n, what, at)
}

// A list is a YAML sequence; at is the place of its key, or of the mapping
// that lacks it.
type list struct {
	at    pos
	set   bool // written and a list
	bad   bool // written and not a list
	items []ast.Node
}

func (m *mapping) list(key string) list {
	e := m.take(key)
	if e == nil {
		return list{at: m.at, bad: m.bad}
	}
	l := list{at: e.at}
	switch n := m.d.resolve(e.value).(type) {
	case *ast.SequenceNode:
		l.set, l.items = true, n.Values
	case *ast.NullNode:
		l.bad = true
		m.d.errorf(e.at, "%s has no value: give it one, or remove the key", key)
	case nil:
		l.bad = true
	default:
		l.bad = true
		m.d.errorf(position(n), "%s: want a list, found %s: begin each entry with \"- \"", key, kindOf(n))
	}
	return l
}
