package netlab

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestParseRecord(t *testing.T) {
	name, inode, err := parseRecord("netns demo-node1 4026532999")
	if name != "demo-node1" || inode != 4026532999 || err != nil {
		t.Errorf("got %q, %d, %v", name, inode, err)
	}
	for _, bad := range []string{
		"", "netns", "netns a", "netns a b", "netns a -1", "dir a 1", "netns  1",
		"netns ../x 1", "netns .. 1", "netns /etc 1", "netns a 1 2",
	} {
		if name, inode, err := parseRecord(bad); err == nil {
			t.Errorf("parseRecord(%q) = %q, %d, no error", bad, name, inode)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add("netns demo-node1 4026532999")
	f.Add("netns ../../etc 1")
	f.Fuzz(func(t *testing.T, line string) {
		name, _, err := parseRecord(line)
		if err == nil && filepath.Dir(filepath.Join(netnsDir, name)) != netnsDir {
			t.Errorf("%q leads out of %s", line, netnsDir)
		}
	})
}

func TestParseMounts(t *testing.T) {
	const info = `22 1 0:20 / /sys rw - sysfs sysfs rw
36 22 0:30 / /run/systole-demo/a/bpf1 rw,nosuid shared:7 - bpf bpf rw
37 22 0:31 / /run/systole-demo/ab/bpf rw - bpf bpf rw
38 36 0:32 / /run/systole-demo/a/bpf1/with\040space rw - tmpfs x rw
39 22 0:33 / /run/systole-demo/a rw - tmpfs x rw
short line
`
	got := parseMounts(info, "/run/systole-demo/a")
	want := []string{"/run/systole-demo/a/bpf1", "/run/systole-demo/a/bpf1/with space"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What stands under a recorded name is removed only with proof.
func TestRemoveNamedWantsProof(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := removeNamed(path, 1); err != nil {
		t.Errorf("nothing there: %v", err)
	}
	if err := os.WriteFile(path, []byte("somebody's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := removeNamed(path, 1); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error("a file with content was removed")
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := removeNamed(path, 1); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("the empty place-holder stayed")
	}
}
