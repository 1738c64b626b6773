package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// nodesFile is to us what hostcache and delhostcache are to the original
// (heartbeat-wire.md section 13). The names are not theirs: so is the form.
const nodesFile = "nodes"

const nodesHeader = `# The nodes of the cluster as they were changed at run time; written by the
# daemon. Remove this file while it is stopped to go by the config alone.
`

// Nodes is what has become of the configured list of nodes at run time.
type Nodes struct {
	Added   []string // not in the config
	Deleted []string // perhaps still in the config
}

// Apply is the configured list as it was changed.
func (n Nodes) Apply(configured []string) []string {
	list := slices.DeleteFunc(slices.Clone(configured), func(name string) bool { return slices.Contains(n.Deleted, name) })
	for _, name := range n.Added {
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}

// LoadNodes reads the changes from the state directory; none if there are none.
// self is our own name: whoever starts is not deleted.
func LoadNodes(dir, self string) (Nodes, error) {
	path := filepath.Join(dir, nodesFile)
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Nodes{}, nil
	case err != nil:
		return Nodes{}, fmt.Errorf("nodes: %w", err)
	}
	var n Nodes
	for i, line := range strings.Split(string(b), "\n") {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || strings.HasPrefix(fields[0], "#"):
		case len(fields) == 2 && fields[0] == "node":
			n.Added = append(n.Added, fields[1])
		case len(fields) == 2 && fields[0] == "deleted":
			if fields[1] != self {
				n.Deleted = append(n.Deleted, fields[1])
			}
		default:
			return Nodes{}, fmt.Errorf("%w: %s:%d: %.80q is neither \"node NAME\" nor \"deleted NAME\"; remove the file to go by the config alone", ErrDamaged, path, i+1, line)
		}
	}
	return n, nil
}

// SaveNodes keeps what differs from the configured list, all or nothing.
func SaveNodes(dir string, configured, nodes, deleted []string) error {
	var b strings.Builder
	b.WriteString(nodesHeader)
	for _, name := range nodes {
		if !slices.Contains(configured, name) {
			fmt.Fprintf(&b, "node %s\n", name)
		}
	}
	for _, name := range deleted {
		fmt.Fprintf(&b, "deleted %s\n", name)
	}
	return writeSync(filepath.Join(dir, nodesFile), []byte(b.String()))
}
