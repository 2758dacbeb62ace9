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
	MOVQ $308, AX        // setns
	MOVQ $3, DI          // protocol.NamespaceFD
	MOVQ $0x40000000, SI // CLONE_NEWNET
	SYSCALL
	TESTQ AX, AX
	JNE  failed
	MOVQ $157, AX        // prctl
	MOVQ $29, DI         // PR_SET_TIMERSLACK
	MOVQ $1000000000, SI // nanoseconds
	SYSCALL
	JMP  _rt0_amd64_linux(SB)

failed:
	MOVQ $100, DI        // protocol.EntryFailed
	SUBQ AX, DI          // AX is -errno
	MOVQ $231, AX        // exit_group
	SYSCALL
	INT  $3
