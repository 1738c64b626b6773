// Package identity keeps what a node must remember over restarts: its UUID and
// its generation (heartbeat-wire.md sections 4 and 6.5).
//
// It promises that two starts never have the same generation, also if the
// machine loses power in between, and that a damaged file is an error, not a
// fresh start: a generation that goes backwards locks a node out of its
// cluster.
package identity

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	uuidFile       = "hb_uuid"
	generationFile = "hb_generation"
)

// ErrDamaged wraps what is wrong with a file of the state directory.
var ErrDamaged = errors.New("state file damaged")

// Identity is who a node is in this start.
type Identity struct {
	UUID       [16]byte // as on the wire
	Generation uint64   // one more than in the last start
}

// Load reads the state directory, making it if needed, and writes the new
// generation back before it returns. now is only used when there is no
// generation yet: the first one is the Unix time plus one.
func Load(dir string, now time.Time) (Identity, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Identity{}, fmt.Errorf("state directory: %w", err)
	}
	var id Identity
	uuid, err := loadUUID(filepath.Join(dir, uuidFile))
	if err != nil {
		return id, err
	}
	gen, err := nextGeneration(filepath.Join(dir, generationFile), now)
	if err != nil {
		return id, err
	}
	return Identity{UUID: uuid, Generation: gen}, nil
}

func loadUUID(path string) (id [16]byte, err error) {
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		rand.Read(id[:])
		id[6] = id[6]&0x0f | 0x40 // version 4, RFC 9562
		id[8] = id[8]&0x3f | 0x80
		return id, writeSync(path, id[:])
	case err != nil:
		return id, fmt.Errorf("node uuid: %w", err)
	case len(b) != len(id):
		return id, fmt.Errorf("%w: %s has %d bytes, a uuid has 16; remove it to get a new one", ErrDamaged, path, len(b))
	}
	return [16]byte(b), nil
}

func nextGeneration(path string, now time.Time) (uint64, error) {
	gen := uint64(now.Unix())
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return 0, fmt.Errorf("generation: %w", err)
	default:
		gen, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 63)
		if err != nil {
			return 0, fmt.Errorf("%w: %s does not hold a number; write one that is higher than the peers saw last (their `systole status --json` says)", ErrDamaged, path)
		}
	}
	gen++
	// 15 digits, right-aligned, as the original writes it: either daemon can
	// go on with the other's file.
	return gen, writeSync(path, fmt.Appendf(nil, "%15d\n", gen))
}

// writeSync replaces a file so that after a power loss it is the old or the new
// one, whole.
func writeSync(path string, b []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("state file: %w", errors.Join(err, os.Remove(tmp)))
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
