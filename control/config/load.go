package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of a file. A server takes some 40 bytes, so this is twenty-five
// thousand of them; it has six levels and a dozen keys in one place.
const (
	maxSize   = 1 << 20
	maxDepth  = 32
	maxIndent = 256
	maxKeys   = 256
)

// Load reads and checks the file at path. node overrides the name of this
// director, "" leaves it to the file, else to the host name. The error is
// Errors if the file could be read.
func Load(path, node string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	// One byte more than allowed: Parse reports what is too long.
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return Parse(path, data, node)
}

// Parse checks data, the contents of the file called name, as Load does. Its
// error is always Errors. It reads the host name if neither node nor the file
// gives a name, and nothing else of the machine.
func Parse(name string, data []byte, node string) (*Config, error) {
	d := &decoder{file: name}
	root := d.parse(data)
	if len(d.errs) > 0 {
		return nil, d.errs.tidy()
	}
	cfg := d.config(root, node)
	if len(d.errs) > 0 {
		return nil, d.errs.tidy()
	}
	return cfg, nil
}

// parse turns the bytes into the one YAML node that is the document.
func (d *decoder) parse(data []byte) ast.Node {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if !d.checkText(data) {
		return nil
	}
	tokens := lexer.Tokenize(string(data))
	if !d.checkShape(tokens) {
		return nil
	}
	file, err := parseTokens(tokens)
	if err != nil {
		d.syntaxError(err)
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		at := position(doc.Body)
		switch {
		case doc.Body.Type() == ast.DirectiveType:
			d.errorf(at, "YAML directives (lines that begin with %%) are not supported: remove it")
		case body != nil:
			d.errorf(at, `a second document starts here: one file holds one configuration, remove the line "---" or "..." above`)
		default:
			body = doc.Body
		}
	}
	if body == nil {
		if len(d.errs) == 0 {
			d.errorf(pos{1, 1}, `the file is empty: write at least "cluster:" with the names of its "nodes:"`)
		}
		return nil
	}
	d.collectAnchors(body)
	return body
}

// parseTokens keeps a panic of the YAML library, which text of this kind has
// caused in the past, from ending a director that only reloads its file.
func parseTokens(tokens token.Tokens) (file *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the YAML parser failed: %v", r)
		}
	}()
	// Duplicate keys are ours to find: the parser would stop at the first.
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

// checkText reports what cannot be YAML text at all.
func (d *decoder) checkText(data []byte) bool {
	if len(data) > maxSize {
		d.errorf(pos{1, 1}, "the file is larger than %d MiB: this is no configuration", maxSize>>20)
		return false
	}
	at := pos{1, 1}
	indent := true // nothing but spaces on this line so far
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			hint := "save it as UTF-8"
			if data[0] == 0xff || data[0] == 0xfe {
				hint = "it looks like UTF-16, " + hint
			}
			d.errorf(at, "the file is not UTF-8 text (byte 0x%02x): %s", data[i], hint)
			return false
		case r == 0xfeff || r == 0x7f || r < ' ' && r != '\t' && r != '\n' && r != '\r':
			d.errorf(at, "control character %U: remove it", r)
			return false
		case r == '\t' && indent:
			d.errorf(at, "a tab in the indentation: use spaces")
			indent = false
		case r != ' ':
			indent = false
		}
		i += n
		at.col++
		if r == '\n' {
			at = pos{at.line + 1, 1}
			indent = true
		}
	}
	return len(d.errs) == 0
}

// checkShape refuses what would keep the parser busy for minutes: it needs time
// with the square of the depth, and of the number of keys of a mapping.
func (d *decoder) checkShape(tokens token.Tokens) bool {
	refuse := func(t *token.Token, format string, limit int) bool {
		d.errorf(tokenPosition(t), format+": this is no configuration", limit)
		return false
	}
	var block [maxIndent + 1]int // keys in the block that is open at a column
	var flow []int               // commas in each of the open braces; brackets have none
	dashes, line := 0, 0
	for i, t := range tokens {
		if t.Position.Line != line { // the first of its line
			dashes, line = 0, t.Position.Line
			col := max(0, t.Position.Column)
			if col > maxIndent {
				return refuse(t, "indented by more than %d characters", maxIndent)
			}
			clear(block[col+1:]) // blocks further to the right have ended
			if i+1 < len(tokens) && tokens[i+1].Type == token.MappingValueType {
				if block[col]++; block[col] > maxKeys {
					return refuse(t, "more than %d keys in one place", maxKeys)
				}
			}
		}
		switch t.Type {
		case token.MappingStartType:
			flow = append(flow, 0)
		case token.SequenceStartType:
			flow = append(flow, -len(tokens)) // a list may be long
		case token.MappingEndType, token.SequenceEndType:
			flow = flow[:max(0, len(flow)-1)]
		case token.CollectEntryType:
			if n := len(flow); n > 0 {
				if flow[n-1]++; flow[n-1] > maxKeys {
					return refuse(t, "more than %d keys in one place", maxKeys)
				}
			}
		case token.SequenceEntryType:
			dashes++
		}
		if len(flow) > maxDepth || dashes > maxDepth {
			return refuse(t, "nested more than %d levels deep", maxDepth)
		}
	}
	return true
}

// yamlHints say what to do about messages of the YAML library that speak of
// its insides.
var yamlHints = []struct{ part, say string }{
	{"mapping value is not allowed in this context", `"key: value" is not possible here: check the indentation, and put text that has ": " in it in quotes`},
	{"value is not allowed in this context", "a value is not possible here: check the indentation and the quotes"},
	{"unexpected key name", `this is not "key: value": write a colon and a space after the key`},
	{"non-map value is specified", `this is not "key: value": write a colon and a space after the key`},
	{"could not find flow mapping end token", `"{" without its "}"`},
	{"sequence end token ']' not found", `"[" without its "]"`},
	{"',' or '}' must be specified", `"," or "}" is missing here`},
	{"',' or ']' must be specified", `"," or "]" is missing here`},
	{"could not find end character of double-quoted", `a quote (") that is not closed`},
	{"could not find end character of single-quoted", "a quote (') that is not closed"},
	{"is a reserved character", "text that begins with @ or ` must stand in quotes"},
	{"unexpected directive value", "text that begins with % must stand in quotes"},
}

func (d *decoder) syntaxError(err error) {
	at, msg := pos{1, 1}, ""
	var ye yaml.Error
	if errors.As(err, &ye) {
		// Not its Error: that prints the file around it, which can take minutes.
		msg, at = ye.GetMessage(), tokenPosition(ye.GetToken())
	} else {
		msg = err.Error()
	}
	for _, h := range yamlHints {
		if strings.Contains(msg, h.part) {
			msg = h.say
			break
		}
	}
	d.errorf(at, "not YAML: %s", msg)
}
