package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ParseAuthkeys reads an authkeys file (heartbeat-wire.md section 3): one line
// "auth N" and lines "N method [key]". Empty lines and lines that begin with #
// are skipped. name is the file's name for messages.
//
// Every fault is reported, each as "name:line: what"; errors never contain a
// key word.
func ParseAuthkeys(r io.Reader, name string) (Keys, error) {
	p := authkeysParser{name: name}
	s := bufio.NewScanner(r)
	for s.Scan() {
		p.line++
		p.parse(s.Text())
	}
	if err := s.Err(); err != nil {
		p.line++
		p.fault("%v", err)
	}
	switch {
	case p.authLine == 0:
		p.line = max(p.line, 1)
		p.fault("no line \"auth N\" that chooses the key to sign with")
	case len(p.errs) == 0:
		if _, ok := p.keys.find(p.keys.Send); !ok {
			p.line = p.authLine
			p.fault("\"auth %d\" chooses a key that the file does not have", p.keys.Send)
		}
	}
	if len(p.errs) > 0 {
		return Keys{}, errors.Join(p.errs...)
	}
	return p.keys, nil
}

type authkeysParser struct {
	name     string
	line     int
	authLine int // where "auth N" stands, 0 if not seen
	keys     Keys
	errs     []error
}

func (p *authkeysParser) fault(format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s:%d: %w", p.name, p.line, fmt.Errorf(format, args...)))
}

func (p *authkeysParser) parse(line string) {
	w := strings.Fields(line)
	if len(w) == 0 || strings.HasPrefix(w[0], "#") {
		return
	}
	if w[0] == "auth" {
		switch {
		case p.authLine != 0:
			p.fault("second line \"auth N\", the first is line %d", p.authLine)
			return
		case len(w) != 2:
			p.fault("want \"auth N\", N being the index of the key to sign with")
			p.authLine = p.line
			return
		}
		p.authLine = p.line
		p.keys.Send = p.index(w[1])
		return
	}
	// What stands first on a broken line may be a key word: it is not quoted
	// unless it is a number.
	if strings.Trim(w[0], "0123456789") != "" {
		p.fault("want \"auth N\" or \"N method [key]\"")
		return
	}
	before := len(p.errs)
	k := Key{Index: p.index(w[0])}
	if len(p.errs) > before {
		return
	}
	if _, ok := p.keys.find(k.Index); ok {
		p.fault("key %d is there twice", k.Index)
		return
	}
	switch {
	case len(w) == 1:
		p.fault("key %d has no method: crc, md5, sha1 or sha256", k.Index)
		return
	case len(w) > 3:
		p.fault("key %d: text after the key, which is one word without blanks", k.Index)
		return
	}
	k.Method = Method(w[1])
	switch k.Method {
	case CRC, MD5, SHA1, SHA256:
	default: // "1 secret": do not quote it
		p.fault("key %d: unknown method, want crc, md5, sha1 or sha256", k.Index)
		return
	}
	if len(w) == 3 {
		k.Secret = []byte(w[2])
	}
	if err := k.usable(); err != nil {
		p.fault("key %d: %w", k.Index, err)
		return
	}
	p.keys.Keys = append(p.keys.Keys, k)
}

// index reads the index of a key; out of range is a fault.
func (p *authkeysParser) index(s string) int {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n > MaxKeyIndex {
		p.fault("the index of a key is a number from 0 to %d", MaxKeyIndex)
		return 0
	}
	return int(n)
}
