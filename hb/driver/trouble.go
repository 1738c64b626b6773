package driver

import (
	"errors"
	"fmt"

	"systole/hb"
)

// trouble tells of something that goes wrong again and again once when it
// begins and once when it is over.
type trouble struct {
	what string
	bad  bool
}

// note takes the outcome of another attempt. It returns a Report if that is
// news.
func (t *trouble) note(err error) (r hb.Report, changed bool) {
	if (err != nil) == t.bad {
		return hb.Report{}, false
	}
	t.bad = err != nil
	if t.bad {
		return hb.Report{Level: hb.Warn, Text: fmt.Sprintf("%s: %v", t.what, err)}, true
	}
	return hb.Report{Level: hb.Info, Text: t.what + ": works again"}, true
}

// errRefused is what BeforeBeat's no means.
var errRefused = errors.New("not sent, as this director could not renew its lease: the others will take over")
