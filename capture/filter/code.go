// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"errors"

	"golang.org/x/net/bpf"
)

// code is a program that grows. Its jumps lead to labels, which are placed later.
type code struct {
	instructions []instruction
	labels       []int // index of the instruction that each is before
}

// instruction is one of a program; if it jumps, to one of two labels.
type instruction struct {
	bpf.Instruction
	jumps   bool
	yes, no label
}

type label int

// label returns a new label.
func (c *code) label() label {
	c.labels = append(c.labels, -1)
	return label(len(c.labels) - 1)
}

// place puts a label before the next instruction.
func (c *code) place(l label) { c.labels[l] = len(c.instructions) }

func (c *code) add(i bpf.Instruction) {
	c.instructions = append(c.instructions, instruction{Instruction: i})
}

// load has the accumulator be so many bytes of the frame at the offset.
func (c *code) load(offset, size int) { c.add(bpf.LoadAbsolute{Off: uint32(offset), Size: size}) }

// jump compares the accumulator with a value.
func (c *code) jump(test bpf.JumpTest, value uint32, yes, no label) {
	c.instructions = append(c.instructions, instruction{bpf.JumpIf{Cond: test, Val: value}, true, yes, no})
}

// equal compares the accumulator with a value.
func (c *code) equal(value uint32, yes, no label) { c.jump(bpf.JumpEqual, value, yes, no) }

// require goes on with the next instruction if the accumulator has the value, and leads to a label otherwise.
func (c *code) require(value uint32, no label) {
	next := c.label()
	c.equal(value, next, no)
	c.place(next)
}

// farthest is how many instructions a conditional jump can skip.
const farthest = 255

// resolve returns the instructions with the labels replaced by distances.
func (c *code) resolve() ([]bpf.Instruction, error) {
	var out []bpf.Instruction
	for i, in := range c.instructions {
		if !in.jumps {
			out = append(out, in.Instruction)
			continue
		}
		j, _ := in.Instruction.(bpf.JumpIf)
		yes, no := c.labels[in.yes]-i-1, c.labels[in.no]-i-1
		if yes > farthest || no > farthest {
			return nil, errors.New("filter: too long: give fewer conditions")
		}
		j.SkipTrue, j.SkipFalse = uint8(yes), uint8(no)
		out = append(out, j)
	}
	return out, nil
}
