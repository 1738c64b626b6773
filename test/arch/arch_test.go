package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func packages(t *testing.T) map[string]pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "systole/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]pkg)
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages listed", len(all))
	}
	return all
}

// under reports whether path is the package or folder root, or below it.
func under(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

func TestArrows(t *testing.T) {
	all := packages(t)
	// Nothing below from may depend, directly or not, on anything below to.
	never := []struct{ from, to, why string }{
		{"systole/hb", "systole/control", "the protocol does not know the director"},
		{"systole/hb", "systole/dataplane", "heartbeat and data plane do not know each other"},
		{"systole/dataplane", "systole/hb", "heartbeat and data plane do not know each other"},
		{"systole/dataplane", "systole/control", "the planes do not know the director"},
		{"systole/control", "systole/dataplane/xdp", "control knows planes by the contract; cmd wires them"},
		{"systole/control", "systole/dataplane/ipvs", "control knows planes by the contract; cmd wires them"},
		{"systole/control", "systole/hb/media", "control knows messages and events, not sockets"},
		{"systole/control", "systole/hb/host", "control knows messages and events, not sockets"},
		{"systole/dataplane/fallback", "systole/dataplane/xdp", "it knows planes by the contract; cmd wires them"},
		{"systole/dataplane/fallback", "systole/dataplane/ipvs", "it knows planes by the contract; cmd wires them"},
		{"systole/hb/driver", "systole/hb/host", "the driver knows hosts by interface; cmd wires them"},
		{"systole/control", "systole/hb/driver", "control knows the heartbeat by interface; cmd wires it"},
		{"systole/control/client", "systole/hb", "a program imports one small package"},
		{"systole/control/client", "systole/control/config", "a program imports one small package"},
		{"systole/control", "systole/cmd", "arrows point down"},
		{"systole/control", "systole/test", "arrows point down"},
		{"systole/dataplane", "systole/test", "arrows point down"},
		{"systole/hb", "systole/test", "arrows point down"},
		{"systole/cmd", "testing", "helpers of tests stay in tests"},
	}
	for _, p := range all {
		for _, n := range never {
			if !under(p.ImportPath, n.from) {
				continue
			}
			for _, d := range p.Deps {
				if under(d, n.to) {
					t.Errorf("%s depends on %s: %s", p.ImportPath, d, n.why)
				}
			}
		}
	}
}

func TestPureCores(t *testing.T) {
	all := packages(t)
	edge := []string{"net", "os", "os/exec", "syscall", "log", "log/slog", "golang.org/x/sys/unix"}
	for path, forbidden := range map[string][]string{
		"systole/hb":                      edge,
		"systole/hb/membership":           edge,
		"systole/hb/hbtest":               {"net", "os/exec", "syscall", "log/slog"},
		"systole/control/takeover":        {"net", "os", "os/exec", "syscall", "golang.org/x/sys/unix"},
		"systole/dataplane/scheduler":     edge,
		"systole/dataplane/flowsync/wire": edge,
		"systole/dataplane/fallback":      {"net", "os", "os/exec", "syscall", "golang.org/x/sys/unix"},
		"systole/dataplane":               {"os", "os/exec", "syscall", "log", "log/slog", "golang.org/x/sys/unix"},
		// LoadAuthkeys reads a file and checks its mode.
		"systole/hb/wire": {"net", "os/exec", "log", "log/slog"},
	} {
		p, ok := all[path]
		if !ok {
			t.Errorf("%s: no such package; has the house changed?", path)
			continue
		}
		for _, i := range p.Imports {
			if slices.Contains(forbidden, i) {
				t.Errorf("%s imports %s: sockets, clocks and logs live at the edge", path, i)
			}
		}
	}
}

// Siblings under control are parts, not layers: only the director joins them.
func TestControlsPartsDoNotKnowEachOther(t *testing.T) {
	parts := []string{"config", "health", "takeover", "vip", "neighbour", "realserver", "broker"}
	for _, p := range packages(t) {
		for _, a := range parts {
			if !under(p.ImportPath, "systole/control/"+a) {
				continue
			}
			for _, i := range p.Imports {
				for _, b := range append(parts, "api", "metrics") {
					if a != b && under(i, "systole/control/"+b) {
						t.Errorf("%s imports %s", p.ImportPath, i)
					}
				}
				if i == "systole/control" {
					t.Errorf("%s imports the director", p.ImportPath)
				}
			}
		}
	}
}
