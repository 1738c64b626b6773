package wire

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// LoadAuthkeys reads the authkeys file at path. It refuses a file that group
// or others may read or write: mode 0600 or stricter.
func LoadAuthkeys(path string) (Keys, error) {
	// Not blocking: a FIFO in its place must not hang the daemon's start.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Keys{}, fmt.Errorf("authkeys: %w", err)
	}
	defer f.Close()
	// The mode of what was opened, not of what has the name by then.
	st, err := f.Stat()
	if err != nil {
		return Keys{}, fmt.Errorf("authkeys: %w", err)
	}
	if !st.Mode().IsRegular() {
		return Keys{}, fmt.Errorf("authkeys: %s: %w", path, errNotRegular)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return Keys{}, fmt.Errorf("authkeys: %s: %w: it is %04o, run chmod 600 %s", path, ErrMode, st.Mode().Perm(), path)
	}
	return ParseAuthkeys(f, path)
}

// ErrMode: others than the owner can read or write the authkeys file.
var ErrMode = errors.New("mode must be 0600")

var errNotRegular = errors.New("not a regular file")
