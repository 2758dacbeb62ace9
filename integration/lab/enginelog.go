package lab

import (
	"os"
	"testing"
)

// EngineLogged is the whole log of the host's engine.
func (h *Host) EngineLogged(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(h.engineLog())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
