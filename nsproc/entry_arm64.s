// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// weave_nsproc_entry is the ELF entry point (go build -ldflags '-E weave_nsproc_entry'). It enters the network
// namespace that descriptor 3 is open on and jumps to Go's own entry point, with the stack as the kernel prepared it.
// If it can't enter, the process exits with status 100 + errno.
//
// It also sets the timer slack to a second, which the threads of the Go runtime inherit. The runtime's monitor thread
// would otherwise wake up every 20 microseconds to preempt goroutines that run for long. nsproc has none, and the
// monitor would take a tenth of its time.
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
