package hb_test

import (
	"flag"
	"path/filepath"
	"strings"
	"testing"

	"systole/hb/hbtest"
)

var update = flag.Bool("update", false, "write the scripts in testdata anew")

// TestScripts runs every interaction script.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts: ", err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".txt")
		t.Run(name, func(t *testing.T) { hbtest.RunScript(t, f, *update) })
	}
}
