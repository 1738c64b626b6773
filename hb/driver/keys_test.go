package driver

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"systole/hb"
	"systole/hb/wire"
)

// TestSetKeys rolls the key of two running drivers over.
func TestSetKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cable{}
		a, b := start(t, c, "a"), start(t, c, "b")
		time.Sleep(3 * keepalive)
		next := wire.Key{Index: 2, Method: wire.MD5, Secret: []byte("next")}
		both := []wire.Key{keys.Keys[0], next}
		for _, k := range []wire.Keys{{Send: 1, Keys: both}, {Send: 2, Keys: both}, {Send: 2, Keys: both[1:]}} {
			for _, d := range []*running{a, b} {
				if err := d.SetKeys(k); err != nil {
					t.Fatal(err)
				}
				time.Sleep(keepalive)
			}
		}
		time.Sleep(2 * deadtime)
		for _, d := range []*running{a, b} {
			v := d.View()
			if p := v.Peers[0]; p.Status != hb.Active || p.Key != "2 md5" || v.Counters.Bad != 0 {
				t.Errorf("%s: %s is %s and signs with %s; %d bad packets", v.Node, p.Name, p.Status, p.Key, v.Counters.Bad)
			}
		}
		if err := a.SetKeys(wire.Keys{Send: 3, Keys: both}); !errors.Is(err, hb.ErrConfig) || !strings.Contains(err.Error(), "no key 3") {
			t.Errorf("a key that is not there: %v", err)
		}
		a.cancel()
		<-a.done
		if err := a.SetKeys(keys); !errors.Is(err, ErrStopped) {
			t.Errorf("after the end: %v", err)
		}
	})
}
