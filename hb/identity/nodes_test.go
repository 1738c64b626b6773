package identity

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestNodes(t *testing.T) {
	dir := t.TempDir()
	configured := []string{"a", "b", "c"}
	if n, err := LoadNodes(dir, "a"); err != nil || !slices.Equal(n.Apply(configured), configured) {
		t.Fatalf("without a file: %+v, %v", n, err)
	}
	if err := SaveNodes(dir, configured, []string{"a", "c", "d"}, []string{"b", "x"}); err != nil {
		t.Fatal(err)
	}
	n, err := LoadNodes(dir, "a")
	if err != nil || !slices.Equal(n.Apply(configured), []string{"a", "c", "d"}) || !slices.Equal(n.Deleted, []string{"b", "x"}) {
		t.Errorf("%+v, %v", n, err)
	}
	// Whoever was removed and is started again is in its own list.
	if n, err := LoadNodes(dir, "b"); err != nil || !slices.Equal(n.Apply(configured), []string{"a", "b", "c", "d"}) {
		t.Errorf("%+v, %v", n, err)
	}
	// A node that has come into the config meanwhile is there once.
	if got := n.Apply([]string{"a", "d"}); !slices.Equal(got, []string{"a", "d"}) {
		t.Errorf("%v", got)
	}
}

func TestBadNodesFile(t *testing.T) {
	for _, text := range []string{"node\n", "# c\n\nnode a b\n", "host a\n"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, nodesFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadNodes(dir, "a"); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), nodesFile+":") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
