"""The loops that a day of a constellation is spent in: compiled by numba where it is installed, else numpy.

Both forms add and multiply in the same order, so results of + - * / and square roots are equal to the bit, and
illumination, which takes arcs of small angles, to 1e-7 of the Sun's disc. `plain=True` asks for numpy whatever is
installed.
"""

from __future__ import annotations

from math import acos, asin, pi, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ground_controller.compiled import COMPILED, compiled
from ground_controller.orbit import sunlight
from ground_controller.orbit.visibility import EARTH_RADIUS_KM

Float = NDArray[np.float64]
Int = NDArray[np.int64]


class Links(NamedTuple):
    """Geometry of E pairs at T instants, each [T, E]: distance, height of the lowest point of the path over the
    sphere, and how fast the line of sight turns."""

    distance_km: Float
    lowest_km: Float
    turn_rad_s: Float


class Contacts(NamedTuple):
    """Passes of satellites over stations, each [C], in the order (station, satellite, first): samples first to
    last (included) at or above the mask."""

    station: Int
    satellite: Int
    first: Int
    last: Int


def hermite(knots_s: Float, position: Float, velocity: Float, t: Float, plain: bool = False) -> tuple[Float, Float]:
    """States between knots by cubic Hermite.

    Args:
        knots_s: [M] evenly spaced; position, velocity: [M, S, 3]; t: [N] within the knots.

    Returns:
        positions and velocities [N, S, 3].
    """
    at = np.clip(np.searchsorted(knots_s, t, side="right") - 1, 0, knots_s.size - 2)
    h = float(knots_s[1] - knots_s[0])
    u = (t - knots_s[at]) / h
    base = np.stack([
        (1.0 + 2.0 * u) * (1.0 - u) ** 2, u * u * (3.0 - 2.0 * u), h * u * (1.0 - u) ** 2, h * u * u * (u - 1.0),
        6.0 * u * (u - 1.0) / h, 6.0 * u * (1.0 - u) / h, (1.0 - u) * (1.0 - 3.0 * u), u * (3.0 * u - 2.0),
    ])  # fmt: skip
    shape = (t.size, *position.shape[1:])
    p, v = position.reshape(knots_s.size, -1), velocity.reshape(knots_s.size, -1)
    out_p, out_v = np.empty((t.size, p.shape[1])), np.empty((t.size, p.shape[1]))
    (_hermite_plain if plain or not COMPILED else _hermite_compiled)(at, base, p, v, out_p, out_v)
    return out_p.reshape(shape), out_v.reshape(shape)


def _hermite_plain(at: Int, base: Float, p: Float, v: Float, out_p: Float, out_v: Float) -> None:
    for n in range(at.size):
        k, b = at[n], base[:, n]
        out_p[n] = b[0] * p[k] + b[1] * p[k + 1] + b[2] * v[k] + b[3] * v[k + 1]
        out_v[n] = b[4] * p[k] + b[5] * p[k + 1] + b[6] * v[k] + b[7] * v[k + 1]


@compiled
def _hermite_compiled(at, base, p, v, out_p, out_v):  # type: ignore[no-untyped-def]  # numba takes its types from the call
    for n in range(at.size):
        k = at[n]
        b0, b1, b2, b3, b4, b5, b6, b7 = base[:, n]
        for s in range(p.shape[1]):
            p0, p1, v0, v1 = p[k, s], p[k + 1, s], v[k, s], v[k + 1, s]
            out_p[n, s] = b0 * p0 + b1 * p1 + b2 * v0 + b3 * v1
            out_v[n, s] = b4 * p0 + b5 * p1 + b6 * v0 + b7 * v1


def link_geometry(position: Float, velocity: Float, a: Int, b: Int, plain: bool = False) -> Links:
    """Distance, lowest point and turning of the pairs (a[e], b[e]) of satellites.

    Args:
        position, velocity: [T, S, 3] km and km/s, one inertial frame.
    """
    out = Links(*(np.empty((position.shape[0], a.size)) for _ in range(3)))
    (_links_plain if plain or not COMPILED else _links_compiled)(position, velocity, a, b, EARTH_RADIUS_KM, *out)
    return out


def _links_plain(
    position: Float, velocity: Float, a: Int, b: Int, radius: float, distance: Float, lowest: Float, turn: Float
) -> None:
    for n in range(position.shape[0]):  # an instant at a time stays in the cache
        ax, ay, az = position[n, a].T
        dx, dy, dz = (position[n, b] - position[n, a]).T
        wx, wy, wz = (velocity[n, b] - velocity[n, a]).T
        length2 = dx * dx + dy * dy + dz * dz
        part = np.clip(-(ax * dx + ay * dy + az * dz) / length2, 0.0, 1.0)
        px, py, pz = ax + part * dx, ay + part * dy, az + part * dz
        cx, cy, cz = dy * wz - dz * wy, dz * wx - dx * wz, dx * wy - dy * wx
        distance[n] = np.sqrt(length2)
        lowest[n] = np.sqrt(px * px + py * py + pz * pz) - radius
        turn[n] = np.sqrt(cx * cx + cy * cy + cz * cz) / length2


@compiled
def _links_compiled(position, velocity, a, b, radius, distance, lowest, turn):  # type: ignore[no-untyped-def]
    for n in range(position.shape[0]):
        for e in range(a.size):
            i, j = a[e], b[e]
            ax, ay, az = position[n, i, 0], position[n, i, 1], position[n, i, 2]
            dx, dy, dz = position[n, j, 0] - ax, position[n, j, 1] - ay, position[n, j, 2] - az
            wx = velocity[n, j, 0] - velocity[n, i, 0]
            wy = velocity[n, j, 1] - velocity[n, i, 1]
            wz = velocity[n, j, 2] - velocity[n, i, 2]
            length2 = dx * dx + dy * dy + dz * dz
            part = -(ax * dx + ay * dy + az * dz) / length2
            part = min(max(part, 0.0), 1.0)
            px, py, pz = ax + part * dx, ay + part * dy, az + part * dz
            cx, cy, cz = dy * wz - dz * wy, dz * wx - dx * wz, dx * wy - dy * wx
            distance[n, e] = sqrt(length2)
            lowest[n, e] = sqrt(px * px + py * py + pz * pz) - radius
            turn[n, e] = sqrt(cx * cx + cy * cy + cz * cz) / length2


def neighbours(position: Float, range_km: float, grazing_km: float, plain: bool = False) -> tuple[Int, Int, Float]:
    """Pairs a < b of S satellites at one instant in sight of each other and in range: ends and distances [E].

    Args:
        position: [S, 3] km.
    """
    work = _neighbours_plain if plain or not COMPILED else _neighbours_compiled
    a, b, distance = work(np.ascontiguousarray(position), range_km, EARTH_RADIUS_KM + grazing_km)
    return a, b, distance


def _neighbours_plain(position: Float, range_km: float, floor: float) -> tuple[Int, Int, Float]:
    found: list[tuple[Int, Int, Float]] = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for i in range(position.shape[0] - 1):
        ax, ay, az = position[i]
        dx, dy, dz = (position[i + 1 :] - position[i]).T
        length2 = dx * dx + dy * dy + dz * dz
        near = np.nonzero(length2 <= range_km * range_km)[0]
        dx, dy, dz, length2 = dx[near], dy[near], dz[near], length2[near]
        part = np.clip(-(ax * dx + ay * dy + az * dz) / length2, 0.0, 1.0)
        px, py, pz = ax + part * dx, ay + part * dy, az + part * dz
        clear = px * px + py * py + pz * pz >= floor * floor
        found.append((np.full(int(clear.sum()), i), near[clear] + i + 1, np.sqrt(length2[clear])))
    a, b, distance = zip(*found, strict=True)
    return np.concatenate(a), np.concatenate(b), np.concatenate(distance)


@compiled
def _neighbours_compiled(position, range_km, floor):  # type: ignore[no-untyped-def]
    satellites = position.shape[0]
    order = np.argsort(position[:, 2])  # a sweep along z: whoever is further along than the range is out of it
    count, room = 0, 1024
    ends, distance = np.empty((room, 2), np.int64), np.empty(room)
    held = np.zeros(satellites + 1, np.int64)
    for at in range(satellites - 1):
        for ahead in range(at + 1, satellites):
            if position[order[ahead], 2] - position[order[at], 2] > range_km:
                break
            i, j = min(order[at], order[ahead]), max(order[at], order[ahead])
            ax, ay, az = position[i, 0], position[i, 1], position[i, 2]
            dx, dy, dz = position[j, 0] - ax, position[j, 1] - ay, position[j, 2] - az
            length2 = dx * dx + dy * dy + dz * dz
            if length2 > range_km * range_km:
                continue
            part = min(max(-(ax * dx + ay * dy + az * dz) / length2, 0.0), 1.0)
            px, py, pz = ax + part * dx, ay + part * dy, az + part * dz
            if px * px + py * py + pz * pz < floor * floor:
                continue
            if count == room:
                room *= 2
                wider_ends, wider_distance = np.empty((room, 2), np.int64), np.empty(room)
                wider_ends[:count], wider_distance[:count] = ends, distance
                ends, distance = wider_ends, wider_distance
            ends[count, 0], ends[count, 1], distance[count] = i, j, sqrt(length2)
            held[i + 1] += 1
            count += 1
    for i in range(satellites):
        held[i + 1] += held[i]
    # into the order of (a, b): a bucket for each a, in which few are sorted by b
    a, b, out = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count)
    used = np.zeros(satellites, np.int64)
    for e in range(count):
        i, j = ends[e]
        first, place = held[i], held[i] + used[i]
        used[i] += 1
        while place > first and b[place - 1] > j:
            b[place], out[place] = b[place - 1], out[place - 1]
            place -= 1
        a[held[i] + used[i] - 1], b[place], out[place] = i, j, distance[e]
    return a, b, out


def illumination(
    position: Float, sun_km: Float, plain: bool = False,
    earth_radius_km: float = sunlight.OCCULTING_RADIUS_KM, sun_radius_km: float = sunlight.SUN_RADIUS_KM,
) -> Float:  # fmt: skip
    """Share of the Sun's disc [T, S] seen from position [T, S, 3], with the Sun at [T, 3] (see `sunlight`)."""
    if plain or not COMPILED:
        return sunlight.illumination(position, sun_km[:, None, :], earth_radius_km, sun_radius_km)
    out: Float = np.empty(position.shape[:2])
    _illumination_compiled(position, sun_km, earth_radius_km, sun_radius_km, out)  # type: ignore[no-untyped-call]
    return out


@compiled
def _illumination_compiled(position, sun_km, earth_radius, sun_radius, out):  # type: ignore[no-untyped-def]
    for n in range(position.shape[0]):
        sx, sy, sz = sun_km[n, 0], sun_km[n, 1], sun_km[n, 2]
        for s in range(position.shape[1]):
            x, y, z = position[n, s, 0], position[n, s, 1], position[n, s, 2]
            along = x * sx + y * sy + z * sz
            if along > 0.0:  # the Sun's half of space: nothing hides it
                out[n, s] = 1.0
                continue
            tx, ty, tz = sx - x, sy - y, sz - z
            to_sun, to_earth = sqrt(tx * tx + ty * ty + tz * tz), sqrt(x * x + y * y + z * z)
            a, b = asin(min(1.0, sun_radius / to_sun)), asin(min(1.0, earth_radius / to_earth))
            cosine = -(x * tx + y * ty + z * tz) / (to_earth * to_sun)
            c = acos(min(1.0, max(-1.0, cosine)))
            if c >= a + b:
                out[n, s] = 1.0
            elif c <= b - a:
                out[n, s] = 0.0
            elif c <= a - b:
                out[n, s] = 1.0 - (b / a) ** 2
            else:
                u = (c * c + a * a - b * b) / (2.0 * c)
                w = sqrt(max(a * a - u * u, 0.0))
                far = min(1.0, max(-1.0, (c - u) / b))
                lens = a * a * acos(min(1.0, max(-1.0, u / a))) + b * b * acos(far) - c * w
                out[n, s] = min(1.0, max(0.0, 1.0 - lens / (pi * a * a)))


def contacts(fixed_km: Float, place_km: Float, up: Float, least_sine: Float, plain: bool = False) -> Contacts:
    """Passes of S satellites over G stations.

    Args:
        fixed_km: [T, S, 3] Earth-fixed; place_km, up: [G, 3] stations and their verticals.
        least_sine: [G] sine of the least elevation.
    """
    work = _contacts_plain if plain or not COMPILED else _contacts_compiled
    rows = work(fixed_km, place_km, up, least_sine)
    return Contacts(*np.ascontiguousarray(rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))].T))


def _contacts_plain(fixed_km: Float, place_km: Float, up: Float, least_sine: Float) -> Int:
    found = [np.empty((0, 4), np.int64)]
    x, y, z = (np.ascontiguousarray(fixed_km[..., k]) for k in range(3))
    for g in range(place_km.shape[0]):
        (px, py, pz), (ux, uy, uz) = place_km[g], up[g]
        dx, dy, dz = x - px, y - py, z - pz
        high = dx * ux + dy * uy + dz * uz
        # sin(elevation) >= s, squared with its sign: no root, and masks below the horizon count too
        seen = high * np.abs(high) >= least_sine[g] * abs(least_sine[g]) * (dx * dx + dy * dy + dz * dz)
        edge = np.diff(np.pad(seen, ((1, 1), (0, 0))).astype(np.int8), axis=0).T
        satellite, first = np.nonzero(edge == 1)
        last = np.nonzero(edge == -1)[1] - 1
        found.append(np.stack([np.full_like(first, g), satellite, first, last], axis=1))
    return np.concatenate(found)


@compiled
def _contacts_compiled(fixed_km, place_km, up, least_sine):  # type: ignore[no-untyped-def]
    stations, satellites, instants = place_km.shape[0], fixed_km.shape[1], fixed_km.shape[0]
    since = np.full((stations, satellites), -1, np.int64)
    was = np.zeros((stations, satellites), np.uint8)
    now = np.zeros(satellites, np.uint8)
    x, y, z = np.empty(satellites), np.empty(satellites), np.empty(satellites)
    count, rows = 0, np.empty((1024, 4), np.int64)
    for n in range(instants + 1):
        if n < instants:
            for s in range(satellites):
                x[s], y[s], z[s] = fixed_km[n, s, 0], fixed_km[n, s, 1], fixed_km[n, s, 2]
        for g in range(stations):
            px, py, pz = place_km[g, 0], place_km[g, 1], place_km[g, 2]
            ux, uy, uz = up[g, 0], up[g, 1], up[g, 2]
            bound = least_sine[g] * abs(least_sine[g])
            if n < instants:
                for s in range(satellites):  # no branch in here: the compiler takes several satellites at a time
                    dx, dy, dz = x[s] - px, y[s] - py, z[s] - pz
                    high = dx * ux + dy * uy + dz * uz
                    now[s] = high * abs(high) >= bound * (dx * dx + dy * dy + dz * dz)
            else:
                now[:] = 0
            before = was[g]
            for s in range(satellites):
                if now[s] == before[s]:
                    continue
                before[s] = now[s]
                if now[s]:
                    since[g, s] = n
                    continue
                if count == rows.shape[0]:
                    wider = np.empty((2 * count, 4), np.int64)
                    wider[:count] = rows
                    rows = wider
                rows[count, 0], rows[count, 1], rows[count, 2], rows[count, 3] = g, s, since[g, s], n - 1
                count += 1
    return rows[:count]
