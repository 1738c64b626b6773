package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"systole/control/metrics"
)

func notifyReady() { _, _ = systemd.SdNotify(false, systemd.SdNotifyReady) }

func notifyReloading() {
	_, _ = systemd.SdNotify(false, systemd.SdNotifyReloading+"\n"+systemd.SdNotifyMonotonicUsec())
}

// tellSystemd says that the director is ready once its loop answers, feeds the
// watchdog while it goes on answering, and keeps the one-line status.
func tellSystemd(ctx context.Context, state metrics.Source, log *slog.Logger) error {
	period := 5 * time.Second
	if w, err := systemd.SdWatchdogEnabled(false); err != nil {
		log.Warn("WATCHDOG_USEC not understood", "err", err)
	} else if w > 0 {
		period = w / 3
	}
	ready := false
	for {
		if s, err := state(ctx); err == nil {
			if !ready {
				notifyReady()
				ready = true
			}
			line := fmt.Sprintf("STATUS=%s, holds %s, %s", s.Role, s.Holds, s.Health)
			_, _ = systemd.SdNotify(false, systemd.SdNotifyWatchdog+"\n"+line)
		}
		select {
		case <-ctx.Done():
			_, _ = systemd.SdNotify(false, systemd.SdNotifyStopping)
			return nil
		case <-time.After(period):
		}
	}
}
