package identity

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var start = time.Unix(1700000000, 0)

func TestGenerationRisesAndUUIDStays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, err := Load(dir, start)
	if err != nil {
		t.Fatal(err)
	}
	if first.Generation != 1700000001 {
		t.Fatalf("first generation %d, want the time plus one", first.Generation)
	}
	for i := range uint64(3) {
		// A clock set back must not matter.
		next, err := Load(dir, start.Add(-time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if next.Generation != first.Generation+i+1 || next.UUID != first.UUID {
			t.Fatalf("start %d: %+v after %+v", i, next, first)
		}
	}
	b, _ := os.ReadFile(filepath.Join(dir, generationFile))
	if string(b) != "     1700000004\n" {
		t.Fatalf("file %q is not the original's form", b)
	}
}

func TestReadsTheOriginalsFiles(t *testing.T) {
	dir := t.TempDir()
	uuid := []byte("0123456789abcdef")
	os.WriteFile(filepath.Join(dir, uuidFile), uuid, 0o600)
	os.WriteFile(filepath.Join(dir, generationFile), []byte("             41\n"), 0o600)
	id, err := Load(dir, start)
	if err != nil || id.Generation != 42 || string(id.UUID[:]) != string(uuid) {
		t.Fatalf("%+v, %v", id, err)
	}
}

func TestDamagedFilesChangeNothing(t *testing.T) {
	for name, content := range map[string]string{
		uuidFile:       "short",
		generationFile: "not a number\n",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		os.WriteFile(path, []byte(content), 0o600)
		if _, err := Load(dir, start); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if b, _ := os.ReadFile(path); string(b) != content {
			t.Errorf("%s was changed to %q", name, b)
		}
	}
}
