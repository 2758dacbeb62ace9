#include "textflag.h"

// weave_nsproc_entry is the ELF entry point (go build -ldflags '-E weave_nsproc_entry'): it enters the network
// namespace that descriptor 3 is open on, then goes on to Go's own entry point with the stack as the kernel left it.
// If it can't enter, the process ends with status 100 + errno.
TEXT weave_nsproc_entry(SB), NOSPLIT|NOFRAME, $0
	MOVD $268, R8        // setns
	MOVD $3, R0          // protocol.NamespaceFD
	MOVD $0x40000000, R1 // CLONE_NEWNET
	SVC
	CBNZ R0, failed
	JMP  _rt0_arm64_linux(SB)

failed:
	MOVD $100, R1        // protocol.EntryFailed
	SUB  R0, R1, R0      // R0 is -errno
	MOVD $94, R8         // exit_group
	SVC
	BRK
