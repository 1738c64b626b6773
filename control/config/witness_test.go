package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// withWitnesses are edits that give base two witnesses.
var withWitnesses = []string{
	"  media:", "  witnesses: [node3, node4]\n  quorum: {kind: weight, weights: {node3: 2}}\n  media:",
	"node2: 192.0.2.2}", "node2: 192.0.2.2, node3: 192.0.2.3, node4: 192.0.2.4}",
}

// The same file is read on a director and on a witness, which may be a real
// server, too; what is not a witness's is not left for it.
func TestWitness(t *testing.T) {
	file := edit(t, base, append(withWitnesses, "address: 192.0.2.200", "address: 192.0.2.3")...)
	c := mustParse(t, file)
	if got := c.Cluster.Members(); !slices.Equal(got, []string{"node1", "node2", "node3", "node4"}) || !slices.Equal(c.Cluster.Nodes, got[:2]) {
		t.Errorf("members %q, directors %q", got, c.Cluster.Nodes)
	}
	if c.Witness() || c.Own() != c {
		t.Error("node1 is a director, and all is its own")
	}
	w, err := Parse("f", []byte(file), "node4")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c.Services, w.Services, cmpAddr); diff != "" {
		t.Errorf("read in another way: %s", diff)
	}
	own := w.Own()
	if !w.Witness() || !own.Witness() || own.Node != "node4" || len(own.Groups)+len(own.Services) != 0 || !reflect.DeepEqual(own.DataPlane, DataPlane{}) || len(own.Cluster.Media) != 1 {
		t.Errorf("a witness's own: %+v", own)
	}
	if len(w.Groups) == 0 || len(w.Services) == 0 {
		t.Error("Own has changed what it was asked of")
	}
	// What a witness does not use may change under it.
	changed := mustParse(t, edit(t, file, "dataplane: {interface: eth0}", "dataplane: {interface: eth1}", "  media:", "  addresses: {node1: 192.0.2.1, node2: 192.0.2.2}\n  media:"))
	changed.Node = "node4"
	if got := LiveChange(w.Own(), changed.Own()); got != nil {
		t.Errorf("a witness would need a restart for %q", got)
	}
	if got := w.interfaces(); !slices.Equal(got, []string{"eth0"}) {
		t.Errorf("interfaces %q", got)
	}
	if got := mustParse(t, edit(t, base, "  media:", "  witnesses: []\n  media:")).Cluster.Witnesses; got != nil {
		t.Errorf("an empty list: %#v", got)
	}
	if _, err := Parse("f", []byte(edit(t, file, "node1, node2]", "node1]", ", node2: 192.0.2.2", "")), "node3"); err != nil {
		t.Errorf("one director and witnesses: %v", err)
	}
}

func TestWitnessesInSummary(t *testing.T) {
	got := Summary(mustParse(t, edit(t, base, withWitnesses...)))
	for _, want := range []string{
		"cluster systole: 2 directors of node1, node2 (this is node1)\n  2 witnesses, which vote and own nothing: node3, node4\n",
		"udp port 694: node1 192.0.2.1, node2 192.0.2.2, node3 192.0.2.3, node4 192.0.2.4\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}
