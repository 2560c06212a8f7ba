"""Products of bytes, 64 of them at once: what a processor with AVX-512 VNNI has `vpdpbusd` for.

It multiplies four unsigned bytes with four signed ones and adds all to a 32-bit sum, in sixteen places, in the time in which another
instruction multiplies and adds sixteen floats. LLVM does not find it for a loop, so that it is called by its name, in a kernel that
keeps its sums in registers.
"""

from __future__ import annotations

from llvmlite import ir
from numba import config, types
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

NAME = "llvm.x86.avx512.vpdpbusd.512"
LANES, VECTORS, TILE = 16, 4, 6  # TILE users with VECTORS * LANES items are 24 of the 32 registers
BLOCK = VECTORS * LANES
_MASK, _SUM, _LONG = ir.IntType(LANES), ir.IntType(32), ir.IntType(64)
_SUMS, _BYTES = ir.VectorType(_SUM, LANES), ir.VectorType(ir.IntType(8), 4 * LANES)
_ZEROS = ir.Constant(_SUMS, [0] * LANES)


def here() -> bool:
    """Whether this processor has the instruction, and numba may use it."""
    asked = getattr(config, "CPU_FEATURES", None)  # NUMBA_CPU_FEATURES, where somebody has set it
    return "+avx512vnni" in (get_host_cpu_features() if asked is None else asked).split(",")


@intrinsic
def reach(typing, codes, block, users, rows, quads, least, found):
    """found: (TILE,) uint64, bit i for item i of the block where its product with the user is `least` or more.

    codes: uint8, (blocks, quads, BLOCK, 4) in one row, at a multiple of 64 bytes. users: (n, 4 * quads) int8. rows: (TILE,) int64 of
    them. least: (TILE,) int32.
    """

    def code(context, builder, signature, given):
        def at(pointer, place):
            return builder.gep(pointer, [place if isinstance(place, ir.Value) else ir.Constant(_LONG, place)])

        def start_of(place, kind=None):
            data = context.make_array(signature.args[place])(context, builder, given[place]).data
            return builder.bitcast(data, kind.as_pointer()) if kind else data

        before, quads = builder.block, given[4]
        wide = ir.Constant(_LONG, VECTORS)
        items = at(start_of(0, _SUMS), builder.mul(given[1], builder.mul(quads, wide)))
        rows = [builder.load(at(start_of(3), user)) for user in range(TILE)]
        users = [at(start_of(2, _SUM), builder.mul(row, quads)) for row in rows]
        loop, after = builder.append_basic_block("quads"), builder.append_basic_block("compared")
        builder.branch(loop)
        builder.position_at_end(loop)
        quad = builder.phi(_LONG)
        sums = [[builder.phi(_SUMS) for _ in range(VECTORS)] for _ in range(TILE)]
        first = at(items, builder.mul(quad, wide))
        loaded = [builder.load(at(first, vector), align=1) for vector in range(VECTORS)]
        for user, row in enumerate(sums):
            value = _everywhere(builder, builder.load(at(users[user], quad)))
            for vector, total in enumerate(row):
                total.add_incoming(_ZEROS, before)
                row[vector] = _plus_product(builder, total, loaded[vector], value)
                total.add_incoming(row[vector], loop)
        following = builder.add(quad, ir.Constant(_LONG, 1))
        quad.add_incoming(ir.Constant(_LONG, 0), before)
        quad.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, quads), loop, after)
        builder.position_at_end(after)
        for user, row in enumerate(sums):
            edge, bits = _everywhere(builder, builder.load(at(start_of(5), user))), ir.Constant(_LONG, 0)
            for vector, total in enumerate(row):
                some = builder.zext(builder.bitcast(builder.icmp_signed(">=", total, edge), _MASK), _LONG)
                bits = builder.or_(bits, builder.shl(some, ir.Constant(_LONG, LANES * vector)))
            builder.store(bits, at(start_of(6), user))
        return context.get_dummy_value()

    return types.void(codes, block, users, rows, quads, least, found), code


@intrinsic
def lowest(typing, bits):
    """The place of the lowest bit that is set, of a uint64 that is not 0."""

    def code(context, builder, signature, given):
        return builder.cttz(given[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), code


def _everywhere(builder, value):
    nothing = ir.Constant(_SUMS, ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(_SUM, 0))
    return builder.shuffle_vector(one, nothing, _ZEROS)


def _plus_product(builder, total, items, user):
    shape = ir.FunctionType(_SUMS, [_SUMS, _BYTES, _BYTES])
    named = builder.module.globals.get(NAME) or ir.Function(builder.module, shape, NAME)
    return builder.call(named, [total, builder.bitcast(items, _BYTES), builder.bitcast(user, _BYTES)])
