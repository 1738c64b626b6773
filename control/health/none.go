package health

import "context"

// checkNone is for a server that is taken to be up.
func checkNone(context.Context, Check) error { return nil }
