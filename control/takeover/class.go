package takeover

import (
	"errors"
	"fmt"
)

// Class is a set of resource groups as heartbeat names them: by whose they
// are by preference, seen from the node that speaks (heartbeat-wire.md
// section 9). The groups themselves are never sent; both nodes must have the
// same list.
type Class uint8

// Local are the groups whose preferred node is the speaker, Foreign those of
// the other node.
const (
	None    Class = 0
	Local   Class = 1
	Foreign Class = 2
	All     Class = Local | Foreign
)

// ErrClass is wrapped by ParseClass.
var ErrClass = errors.New("not a class of resource groups")

// ParseClass reads one of heartbeat's words: none, local, foreign, all.
func ParseClass(word string) (Class, error) {
	for c := None; c <= All; c++ {
		if word == c.String() {
			return c, nil
		}
	}
	return None, fmt.Errorf("%q is %w: want none, local, foreign or all", word, ErrClass)
}

// String is heartbeat's word for the class.
func (c Class) String() string {
	switch c {
	case None:
		return "none"
	case Local:
		return "local"
	case Foreign:
		return "foreign"
	case All:
		return "all"
	}
	return fmt.Sprintf("class-%d", uint8(c))
}

// Inverse is the same set in the other node's words: what is local to one is
// foreign to the other.
func (c Class) Inverse() Class {
	return c&Local<<1 | c&Foreign>>1
}

// MarshalText makes a class a word in JSON.
func (c Class) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (c *Class) UnmarshalText(text []byte) error {
	parsed, err := ParseClass(string(text))
	if err != nil {
		return err
	}
	*c = parsed
	return nil
}
