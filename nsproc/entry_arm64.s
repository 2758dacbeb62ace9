#include "textflag.h"

// weave_nsproc_entry is the ELF entry point (go build -ldflags '-E weave_nsproc_entry'): it enters the network
// namespace that descriptor 3 is open on, then goes on to Go's own entry point with the stack as the kernel left it.
// If it can't enter, the process ends with status 100 + errno.
//
// The timer slack, which the threads of the runtime inherit, lets its monitor sleep for as long as nsproc lives: it would
// wake up each 20 microseconds to look after goroutines that nsproc does not have, at a tenth of nsproc's whole time.
TEXT weave_nsproc_entry(SB), NOSPLIT|NOFRAME, $0
	MOVD $268, R8        // setns
	MOVD $3, R0          // protocol.NamespaceFD
	MOVD $0x40000000, R1 // CLONE_NEWNET
	SVC
	CBNZ R0, failed
	MOVD $167, R8        // prctl
	MOVD $29, R0         // PR_SET_TIMERSLACK
	MOVD $1000000000, R1 // nanoseconds
	SVC
	JMP  _rt0_arm64_linux(SB)

failed:
	MOVD $100, R1        // protocol.EntryFailed
	SUB  R0, R1, R0      // R0 is -errno
	MOVD $94, R8         // exit_group
	SVC
	BRK
