// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// sizeofNfgenmsg is the size in bytes of a struct nfgenmsg (linux/netfilter/nfnetlink.h).
const sizeofNfgenmsg = 4

// ofNetfilter puts a struct nfgenmsg into words.
func ofNetfilter(b []byte) string {
	return fmt.Sprintf("family=%s resource=%d", family(b[0]), binary.BigEndian.Uint16(b[2:]))
}

// tableAttributes are those of the messages of nftables that nsproc sends, by the type of message: the attributes of
// linux/netfilter/nf_tables.h that nsproc uses.
var tableAttributes = map[uint16]attributes{
	unix.NFT_MSG_NEWTABLE: {
		unix.NFTA_TABLE_NAME:  {name: "NFTA_TABLE_NAME", value: text},
		unix.NFTA_TABLE_FLAGS: {name: "NFTA_TABLE_FLAGS", value: bigNumber},
	},
	unix.NFT_MSG_NEWSET: {
		unix.NFTA_SET_TABLE:    {name: "NFTA_SET_TABLE", value: text},
		unix.NFTA_SET_NAME:     {name: "NFTA_SET_NAME", value: text},
		unix.NFTA_SET_FLAGS:    {name: "NFTA_SET_FLAGS", value: bigNumber},
		unix.NFTA_SET_KEY_TYPE: {name: "NFTA_SET_KEY_TYPE", value: bigNumber},
		unix.NFTA_SET_KEY_LEN:  {name: "NFTA_SET_KEY_LEN", value: bigNumber},
		unix.NFTA_SET_ID:       {name: "NFTA_SET_ID", value: bigNumber},
		unix.NFTA_SET_TIMEOUT:  {name: "NFTA_SET_TIMEOUT", value: bigNumber},
	},
	unix.NFT_MSG_NEWCHAIN: {
		unix.NFTA_CHAIN_TABLE: {name: "NFTA_CHAIN_TABLE", value: text},
		unix.NFTA_CHAIN_NAME:  {name: "NFTA_CHAIN_NAME", value: text},
		unix.NFTA_CHAIN_TYPE:  {name: "NFTA_CHAIN_TYPE", value: text},
		unix.NFTA_CHAIN_HOOK: inside("NFTA_CHAIN_HOOK", attributes{
			unix.NFTA_HOOK_HOOKNUM:  {name: "NFTA_HOOK_HOOKNUM", value: bigNumber},
			unix.NFTA_HOOK_PRIORITY: {name: "NFTA_HOOK_PRIORITY", value: signed},
		}),
	},
	unix.NFT_MSG_NEWRULE: {
		unix.NFTA_RULE_TABLE: {name: "NFTA_RULE_TABLE", value: text},
		unix.NFTA_RULE_CHAIN: {name: "NFTA_RULE_CHAIN", value: text},
		unix.NFTA_RULE_EXPRESSIONS: inside("NFTA_RULE_EXPRESSIONS", attributes{
			unix.NFTA_LIST_ELEM: inside("NFTA_LIST_ELEM", attributes{
				unix.NFTA_EXPR_NAME: {name: "NFTA_EXPR_NAME", value: text},
				unix.NFTA_EXPR_DATA: {name: "NFTA_EXPR_DATA", value: hex}, // what is in it depends on the name
			}),
		}),
	},
}

func inside(name string, known attributes) attribute {
	a := nested(known)
	a.name = name
	return a
}

// signed shows a number of 32 bits in network byte order that may be negative.
func signed(v []byte) string {
	if len(v) != 4 {
		return hex(v)
	}
	return fmt.Sprint(int32(binary.BigEndian.Uint32(v)))
}
