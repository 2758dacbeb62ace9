#include "textflag.h"

// weave_nsproc_entry is the ELF entry point (go build -ldflags '-E weave_nsproc_entry'): it enters the network
// namespace that descriptor 3 is open on, then goes on to Go's own entry point with the stack as the kernel left it.
// If it can't enter, the process ends with status 100 + errno.
//
// The timer slack, which the threads of the runtime inherit, lets its monitor sleep for as long as nsproc lives: it would
// wake up each 20 microseconds to look after goroutines that nsproc does not have, at a tenth of nsproc's whole time.
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
