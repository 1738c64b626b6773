package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"systole/hb/wire"
)

// Warnings are sentences about a right configuration that may yet not do what
// is meant, on this machine or anywhere. It looks at the interfaces' names and
// at the mode of the authkeys file, needs no root, and changes nothing.
//
// A file may be checked on a machine that is no director, so what is not there
// is no error here; the daemon makes it one when it starts.
func Warnings(c *Config) []string {
	w := advice(c)
	for _, name := range c.interfaces() {
		if _, err := net.InterfaceByName(name); err != nil {
			w = append(w, fmt.Sprintf("interface %s is not on this machine", name))
		}
	}
	for _, m := range c.Cluster.Media {
		if m.Device == "" {
			continue
		}
		if _, err := os.Stat(m.Device); errors.Is(err, fs.ErrNotExist) {
			w = append(w, fmt.Sprintf("serial line %s is not on this machine", m.Device))
		}
	}
	if len(c.Cluster.Members()) < 2 {
		return w
	}
	path := c.Cluster.Authkeys
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		w = append(w, fmt.Sprintf("cluster.authkeys: there is no %s: the directors need the same one, mode 0600", path))
	case errors.Is(err, fs.ErrPermission): // not root: nothing to say
	case err != nil:
		w = append(w, fmt.Sprintf("cluster.authkeys: %v", err))
	case info.Mode().Perm()&0o077 != 0:
		w = append(w, fmt.Sprintf("cluster.authkeys: %s has mode %04o, and the daemon will refuse it: chmod 600 %s", path, info.Mode().Perm(), path))
	default:
		w = append(w, keyWarnings(wire.LoadAuthkeys(path))...)
	}
	return w
}

// keyWarnings is about what is in the authkeys file.
func keyWarnings(keys wire.Keys, err error) (w []string) {
	switch {
	case errors.Is(err, fs.ErrPermission): // not root: nothing to say
		return nil
	case err != nil:
		return []string{fmt.Sprintf("cluster.authkeys: the daemon will refuse it: %v", err)}
	}
	sealed := false
	for _, k := range keys.Keys {
		sealed = sealed || k.Method == wire.SHA256
	}
	for _, k := range keys.Keys {
		switch {
		case k.Method == wire.CRC:
			w = append(w, fmt.Sprintf("cluster.authkeys: key %s finds damaged packets and stops nobody: whoever reaches the network can take the addresses; use sha256 (or sha1 with heartbeat nodes)", k))
		case sealed && k.Method != wire.SHA256:
			w = append(w, fmt.Sprintf("cluster.authkeys: key %s is accepted as well, so packets it signs can be replayed: remove it when all directors sign with sha256", k))
		}
	}
	return w
}
