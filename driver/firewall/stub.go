package firewall

// Problem is a stub.
func (f *Firewall) Problem() error { return nil }
