"""Draws the pictures that ship with the package: nothing in them comes from anyone else.

Holds: one function per picture and the few brushes they share. Add here: a picture (a function in
``PICTURES``). Do not add: anything the program needs at run time (the JPEG files are committed).

Run: ``python docs/media/make_pictures.py [FOLDER]`` with Pillow installed. The same Pillow version
draws the same bytes: all chance comes from fixed seeds.
"""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Size = tuple[int, int]

FOLDER: Final = Path(__file__).parents[2] / "warmup_pipeline" / "data" / "media"
LARGEST_BYTES: Final = 38_000
"""Below the 40 KB that the tests allow."""
FINER: Final = 2
"""Everything is drawn this many times larger and scaled down, which smooths the edges."""


def _chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - chance of a drawing, not of a secret


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    share = min(max(share, 0.0), 1.0)
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _sky(size: Size, stops: Sequence[tuple[float, Colour]]) -> Image.Image:
    """Return a canvas whose colour runs from top to bottom through ``stops`` (height 0-1, colour)."""
    width, height = size
    column = Image.new("RGB", (1, height))
    for y in range(height):
        at = y / max(height - 1, 1)
        above = max((stop for stop in stops if stop[0] <= at), key=lambda stop: stop[0])
        below = min((stop for stop in stops if stop[0] >= at), key=lambda stop: stop[0])
        span = below[0] - above[0]
        column.putpixel((0, y), _mix(above[1], below[1], (at - above[0]) / span if span else 0.0))
    return column.resize((width, height))


def _glow(image: Image.Image, centre: tuple[float, float], radius: float, colour: Colour) -> Image.Image:
    """Add soft light around ``centre``."""
    light = Image.new("RGB", image.size)
    x, y = centre
    ImageDraw.Draw(light).ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return ImageChops.screen(image, light.filter(ImageFilter.GaussianBlur(radius * 0.6)))


def _ridge(
    width: int, base: float, swell: float, chance: random.Random, roughness: float = 0.5
) -> list[float]:
    """Return the height line of hills: one y for each x, by halving a line again and again."""
    points = [base + chance.uniform(-swell, swell) for _ in range(3)]
    step = swell
    while len(points) < width:
        step *= roughness
        finer: list[float] = []
        for left, right in itertools.pairwise(points):
            finer += [left, (left + right) / 2 + chance.uniform(-step, step)]
        points = [*finer, points[-1]]
    scale = (len(points) - 1) / max(width - 1, 1)
    return [points[round(x * scale)] for x in range(width)]


def _fill_below(draw: ImageDraw.ImageDraw, line: Sequence[float], height: int, colour: Colour) -> None:
    draw.polygon([(0, height), *enumerate(line), (len(line) - 1, height)], fill=colour)


def _blob(centre: tuple[float, float], radius: float, lobes: int, depth: float) -> list[tuple[float, float]]:
    """Return an outline that swings in and out ``lobes`` times, as petals and lettuce do."""
    x, y = centre
    outline = []
    for step in range(180):
        angle = math.tau * step / 180
        reach = radius * (1 - depth + depth * math.cos(lobes * angle))
        outline.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    return outline


def sunset(size: Size) -> Image.Image:
    """Draw the sun going down behind a lake."""
    width, height = size
    chance = _chance(11)
    horizon = round(height * 0.62)
    image = _sky(
        size,
        [(0, (44, 32, 92)), (0.3, (148, 62, 120)), (0.52, (244, 128, 84)), (0.62, (255, 206, 120)),
         (0.63, (214, 120, 92)), (1, (36, 26, 66))],
    )  # fmt: skip
    image = _glow(image, (width * 0.58, horizon - height * 0.05), height * 0.16, (255, 190, 110))
    draw = ImageDraw.Draw(image)
    sun = height * 0.085
    draw.ellipse(
        (
            width * 0.58 - sun,
            horizon - height * 0.05 - sun,
            width * 0.58 + sun,
            horizon - height * 0.05 + sun,
        ),
        fill=(255, 244, 196),
    )
    water = _sky(
        size, [(0, (236, 150, 100)), (0.62, (236, 150, 100)), (0.75, (150, 78, 104)), (1, (36, 26, 66))]
    )
    image.paste(water.crop((0, horizon, width, height)), (0, horizon))
    draw = ImageDraw.Draw(image)
    for _ in range(260):
        y = chance.uniform(horizon + 2, height)
        near = (y - horizon) / (height - horizon)
        half = chance.uniform(6, 30) * (0.4 + 1.6 * near)
        x = width * 0.58 + chance.gauss(0, width * (0.03 + 0.09 * near))
        draw.line((x - half, y, x + half, y), fill=_mix((255, 226, 160), (206, 112, 104), near), width=3)
    hills = _ridge(width, horizon - height * 0.03, height * 0.05, chance, 0.45)
    draw.polygon(
        [(0, horizon), *enumerate(min(y, horizon) for y in hills), (width, horizon)], fill=(52, 30, 66)
    )
    return image


def sea(size: Size) -> Image.Image:
    """Draw a calm beach at noon."""
    width, height = size
    chance = _chance(5)
    image = _sky(
        size,
        [(0, (74, 160, 226)), (0.38, (190, 228, 246)), (0.39, (20, 104, 152)), (0.6, (34, 160, 184)),
         (0.74, (130, 214, 208)), (1, (150, 220, 212))],
    )  # fmt: skip
    clouds = Image.new("L", size)
    puff = ImageDraw.Draw(clouds)
    for cloud_x, cloud_y in ((0.2, 0.12), (0.68, 0.2), (0.9, 0.08)):
        for _ in range(14):
            x = width * cloud_x + chance.gauss(0, width * 0.05)
            y = height * cloud_y + chance.gauss(0, height * 0.012)
            reach = chance.uniform(0.02, 0.045) * width
            puff.ellipse((x - reach, y - reach * 0.55, x + reach, y + reach * 0.55), fill=215)
    image.paste((255, 255, 255), mask=clouds.filter(ImageFilter.GaussianBlur(9)))
    draw = ImageDraw.Draw(image)
    for _ in range(150):
        y = chance.uniform(height * 0.41, height * 0.7)
        half = chance.uniform(5, 40) * (y / height)
        x = chance.uniform(0, width)
        draw.line(
            (x - half, y, x + half, y), fill=_mix((60, 150, 186), (214, 244, 240), chance.random()), width=2
        )
    shore = [
        height * (0.77 + 0.03 * math.sin(x / width * 7) + 0.012 * math.sin(x / width * 23))
        for x in range(width)
    ]
    _fill_below(draw, [y - height * 0.012 for y in shore], height, (250, 252, 248))
    _fill_below(draw, [y + height * 0.008 for y in shore], height, (206, 176, 128))
    _fill_below(draw, [y + height * 0.05 for y in shore], height, (236, 210, 160))
    for _ in range(400):
        x, y = chance.uniform(0, width), chance.uniform(height * 0.88, height)
        draw.ellipse((x, y, x + 3, y + 2), fill=(218, 188, 138))
    return image


def mountains(size: Size) -> Image.Image:
    """Draw blue ranges, one behind the other, in the morning mist."""
    width, height = size
    chance = _chance(23)
    image = _sky(size, [(0, (118, 172, 214)), (0.55, (246, 230, 208)), (1, (250, 236, 216))])
    image = _glow(image, (width * 0.24, height * 0.3), height * 0.08, (255, 226, 170))
    for layer in range(6):
        share = layer / 5
        line = _ridge(width, height * (0.42 + 0.1 * layer), height * (0.12 - 0.012 * layer), chance, 0.5)
        mist = _sky(size, [(0, _mix((150, 180, 206), (24, 52, 58), share)),
                           (1, _mix((214, 216, 214), (34, 72, 62), share))])  # fmt: skip
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).polygon([(0, height), *enumerate(line), (width, height)], fill=255)
        image.paste(mist, mask=mask)
    draw = ImageDraw.Draw(image)
    for _ in range(42):
        x = chance.uniform(0, width)
        tall = chance.uniform(0.06, 0.13) * height
        foot = height * chance.uniform(0.97, 1.03)
        for tier in range(3):
            top = foot - tall + tier * tall * 0.24
            half = tall * (0.12 + 0.08 * tier)
            draw.polygon(
                [(x, top), (x - half, top + tall * 0.42), (x + half, top + tall * 0.42)], fill=(14, 36, 36)
            )
    return image


def coffee(size: Size) -> Image.Image:
    """Draw a cup of coffee on a wooden table, from above."""
    width, height = size
    chance = _chance(3)
    image = Image.new("RGB", size, (146, 98, 62))
    draw = ImageDraw.Draw(image)
    plank = height // 5
    for row in range(6):
        tone = _mix((134, 86, 52), (164, 112, 72), chance.random())
        draw.rectangle((0, row * plank, width, (row + 1) * plank - 4), fill=tone)
        for _ in range(16):
            y = row * plank + chance.uniform(4, plank - 8)
            bend = chance.uniform(-8, 8)
            draw.line(
                [(x, y + bend * math.sin(x / width * math.pi)) for x in range(0, width + 20, 20)],
                fill=_mix(tone, (96, 58, 34), chance.uniform(0.15, 0.5)), width=2,
            )  # fmt: skip
    x, y, reach = width * 0.47, height * 0.52, height * 0.34
    shade = Image.new("L", size)
    ImageDraw.Draw(shade).ellipse((x - reach + 24, y - reach + 30, x + reach + 24, y + reach + 30), fill=130)
    image.paste((50, 28, 16), mask=shade.filter(ImageFilter.GaussianBlur(18)))
    draw = ImageDraw.Draw(image)

    def disc(radius: float, colour: Colour) -> None:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    disc(reach, (226, 230, 232))
    disc(reach * 0.97, (246, 246, 242))
    disc(reach * 0.72, (226, 226, 222))
    draw.rounded_rectangle((x + reach * 0.5, y - 20, x + reach * 0.98, y + 20), 20, fill=(214, 92, 74))
    disc(reach * 0.63, (214, 92, 74))
    disc(reach * 0.57, (250, 244, 236))
    disc(reach * 0.53, (88, 48, 24))
    disc(reach * 0.49, (150, 92, 48))
    heart = []
    for step in range(120):
        angle = math.tau * step / 120
        across = 16 * math.sin(angle) ** 3
        up = 13 * math.cos(angle) - 5 * math.cos(2 * angle) - 2 * math.cos(3 * angle) - math.cos(4 * angle)
        heart.append((x + across * reach * 0.02, y - up * reach * 0.02))
    draw.polygon(heart, fill=(246, 228, 196))
    draw.polygon([(hx * 0.55 + x * 0.45, hy * 0.55 + y * 0.45) for hx, hy in heart], fill=(206, 156, 104))
    for bean_x, bean_y in ((0.86, 0.18), (0.91, 0.27), (0.82, 0.82), (0.09, 0.2), (0.14, 0.86)):
        bx, by = width * bean_x, height * bean_y
        draw.ellipse((bx - 22, by - 15, bx + 22, by + 15), fill=(62, 34, 18))
        draw.arc((bx - 20, by - 7, bx + 20, by + 9), 190, 350, fill=(118, 74, 44), width=4)
    return image


def garden(size: Size) -> Image.Image:
    """Draw a bed of daisies and tulips."""
    width, height = size
    chance = _chance(17)
    image = _sky(
        size, [(0, (176, 220, 244)), (0.4, (226, 240, 224)), (0.45, (120, 176, 92)), (1, (46, 104, 52))]
    )
    draw = ImageDraw.Draw(image)
    for _ in range(34):
        x, y = chance.uniform(0, width), height * chance.uniform(0.36, 0.47)
        reach = chance.uniform(30, 90)
        draw.ellipse((x - reach, y - reach * 0.7, x + reach, y + reach * 0.7),
                     fill=_mix((92, 148, 84), (60, 116, 70), chance.random()))  # fmt: skip
    image = image.filter(ImageFilter.GaussianBlur(7))
    draw = ImageDraw.Draw(image)
    for _ in range(420):
        x, y = chance.uniform(0, width), chance.uniform(height * 0.5, height * 1.05)
        draw.line((x, y, x + chance.uniform(-10, 10), y - chance.uniform(24, 70)),
                  fill=_mix((54, 116, 54), (134, 190, 88), chance.random()), width=3)  # fmt: skip
    spots = sorted(((chance.uniform(0, width), chance.uniform(0.5, 0.94) * height) for _ in range(46)),
                   key=lambda spot: spot[1])  # fmt: skip
    petals: tuple[Colour, ...] = (
        (250, 250, 246),
        (246, 196, 60),
        (226, 78, 96),
        (242, 150, 182),
        (158, 104, 198),
    )
    for x, y in spots:
        reach = 14 + 30 * (y / height - 0.45) * 2
        draw.line((x, y, x + chance.uniform(-8, 8), y + reach * 4), fill=(58, 112, 52), width=5)
        colour = chance.choice(petals)
        draw.polygon(_blob((x, y), reach, chance.choice((5, 6, 8)), 0.28), fill=colour)
        middle = reach * 0.34
        draw.ellipse((x - middle, y - middle, x + middle, y + middle),
                     fill=(240, 176, 40) if colour != petals[1] else (150, 84, 36))  # fmt: skip
    return image


def city_night(size: Size) -> Image.Image:
    """Draw a skyline with lit windows and its reflection."""
    width, height = size
    chance = _chance(42)
    image = _sky(size, [(0, (10, 14, 40)), (0.55, (46, 40, 92)), (0.72, (150, 84, 110)), (1, (150, 84, 110))])
    draw = ImageDraw.Draw(image)
    for _ in range(110):
        x, y = chance.uniform(0, width), chance.uniform(0, height * 0.4)
        draw.ellipse((x, y, x + 3, y + 3), fill=(224, 226, 246))
    ground = round(height * 0.78)
    for layer, (tone, low, high) in enumerate((((44, 40, 84), 0.3, 0.52), ((20, 20, 44), 0.16, 0.46))):
        x = -20
        while x < width:
            wide = chance.randint(50, 120)
            top = ground - round(height * chance.uniform(low, high))
            draw.rectangle((x, top, x + wide - 6, ground), fill=tone)
            if chance.random() < 0.25:
                draw.line((x + wide / 2, top - 46, x + wide / 2, top), fill=tone, width=5)
            if layer:
                for window_y in range(top + 14, ground - 14, 24):
                    for window_x in range(x + 10, x + wide - 20, 20):
                        if chance.random() < 0.42:
                            lit = _mix((255, 214, 120), (255, 246, 214), chance.random())
                            draw.rectangle((window_x, window_y, window_x + 9, window_y + 12), fill=lit)
            x += wide
    mirror = image.crop((0, 2 * ground - height, width, ground)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    mirror = Image.blend(
        mirror.filter(ImageFilter.GaussianBlur(7)), Image.new("RGB", mirror.size, (12, 14, 36)), 0.45
    )
    image.paste(mirror, (0, ground))
    return image


def rain_window(size: Size) -> Image.Image:
    """Draw drops on a window pane with blurred street lights behind."""
    width, height = size
    chance = _chance(8)
    image = _sky(size, [(0, (70, 86, 104)), (0.6, (96, 108, 118)), (1, (52, 58, 70))])
    draw = ImageDraw.Draw(image)
    lights: tuple[Colour, ...] = ((250, 196, 110), (236, 110, 96), (146, 206, 170), (246, 232, 196))
    for _ in range(26):
        x, y = chance.uniform(0, width), chance.uniform(height * 0.35, height * 0.9)
        reach = chance.uniform(16, 46)
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=chance.choice(lights))
    image = image.filter(ImageFilter.GaussianBlur(20))
    bright = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).point(
        lambda value: min(255, round(value * 1.3 + 18))
    )
    drops, rims = Image.new("L", size), Image.new("L", size)
    inside, rim = ImageDraw.Draw(drops), ImageDraw.Draw(rims)
    for _ in range(230):
        x, y = chance.uniform(0, width), chance.uniform(0, height)
        reach = chance.choice((4, 5, 6, 8, 11, 15))
        box = (x - reach, y - reach * 1.2, x + reach, y + reach * 1.2)
        rim.ellipse((box[0] - 2, box[1], box[2] + 2, box[3] + 4), fill=120)
        inside.ellipse(box, fill=235)
    for _ in range(9):
        x, y, long = chance.uniform(0, width), chance.uniform(0, height * 0.5), chance.uniform(90, 300)
        inside.line(
            [(x + 5 * math.sin(step / 4), y + step * long / 24) for step in range(25)], fill=120, width=9
        )
        inside.ellipse((x - 12, y + long - 14, x + 12, y + long + 18), fill=235)
    image.paste((26, 32, 42), mask=rims.filter(ImageFilter.GaussianBlur(2)))
    image.paste(bright, mask=drops)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, height - 44, width, height), fill=(226, 220, 208))
    draw.rectangle((width // 2 - 13, 0, width // 2 + 13, height), fill=(238, 232, 220))
    draw.line((width // 2 + 13, 0, width // 2 + 13, height - 44), fill=(176, 168, 154), width=5)
    return image


def plate(size: Size) -> Image.Image:
    """Draw rice, beans, a fried egg and salad on a plate, from above."""
    width, height = size
    chance = _chance(29)
    image = Image.new("RGB", size, (196, 214, 206))
    draw = ImageDraw.Draw(image)
    for stripe in range(0, width, 80):
        draw.rectangle((stripe, 0, stripe + 38, height), fill=(182, 202, 196))
    for line in range(0, height, 80):
        draw.rectangle((0, line, width, line + 5), fill=(168, 190, 186))
    x, y, reach = width * 0.5, height * 0.5, min(size) * 0.43
    shade = Image.new("L", size)
    ImageDraw.Draw(shade).ellipse((x - reach + 14, y - reach + 20, x + reach + 14, y + reach + 20), fill=120)
    image.paste((70, 84, 80), mask=shade.filter(ImageFilter.GaussianBlur(16)))
    draw = ImageDraw.Draw(image)
    for share, tone in ((1.0, (232, 232, 228)), (0.97, (252, 252, 250)), (0.74, (238, 238, 234))):
        draw.ellipse((x - reach * share, y - reach * share, x + reach * share, y + reach * share), fill=tone)

    def heap(
        at_x: float, at_y: float, spread: float, count: int, grain: Size, tones: Sequence[Colour]
    ) -> None:
        for _ in range(count):
            angle, far = chance.uniform(0, math.tau), math.sqrt(chance.random()) * spread
            gx, gy = x + at_x * reach + far * math.cos(angle), y + at_y * reach + far * math.sin(angle) * 0.85
            wide, tall = grain if chance.random() < 0.5 else grain[::-1]
            draw.ellipse((gx - wide, gy - tall, gx + wide, gy + tall), fill=chance.choice(tones))

    heap(-0.28, -0.18, reach * 0.34, 520, (13, 6), ((250, 246, 234), (238, 232, 214), (244, 240, 226)))
    heap(-0.16, 0.36, reach * 0.29, 190, (14, 9), ((92, 46, 32), (112, 58, 40), (74, 36, 26)))
    for leaf in range(9):
        angle = math.tau * leaf / 9
        centre = (x + reach * (0.42 + 0.12 * math.cos(angle)), y + reach * (0.3 + 0.12 * math.sin(angle)))
        draw.polygon(_blob(centre, reach * 0.14, 7, 0.12),
                     fill=_mix((86, 156, 66), (144, 200, 96), chance.random()))  # fmt: skip
    for slice_x, slice_y in ((0.36, 0.24), (0.5, 0.38), (0.36, 0.42)):
        cx, cy, round_ = x + reach * slice_x, y + reach * slice_y, reach * 0.085
        draw.ellipse((cx - round_, cy - round_, cx + round_, cy + round_), fill=(206, 52, 44))
        draw.ellipse(
            (cx - round_ * 0.7, cy - round_ * 0.7, cx + round_ * 0.7, cy + round_ * 0.7), fill=(234, 98, 80)
        )
    egg_x, egg_y = x + reach * 0.33, y - reach * 0.26
    draw.polygon(_blob((egg_x, egg_y), reach * 0.3, 5, 0.07), fill=(226, 196, 140))
    draw.polygon(_blob((egg_x, egg_y), reach * 0.28, 5, 0.07), fill=(255, 253, 246))
    yolk = reach * 0.11
    draw.ellipse((egg_x - yolk, egg_y - yolk, egg_x + yolk, egg_y + yolk), fill=(248, 178, 36))
    draw.ellipse(
        (egg_x - yolk * 0.5, egg_y - yolk * 0.6, egg_x - yolk * 0.1, egg_y - yolk * 0.2), fill=(255, 224, 150)
    )
    return image


def cake(size: Size) -> Image.Image:
    """Draw a carrot cake with chocolate running down, on a stand."""
    width, height = size
    chance = _chance(31)
    image = _sky(
        size, [(0, (246, 226, 214)), (0.7, (240, 206, 192)), (0.71, (176, 128, 98)), (1, (142, 98, 72))]
    )
    image = _glow(image, (width * 0.2, height * 0.15), height * 0.2, (60, 50, 40))
    draw = ImageDraw.Draw(image)
    left, right, top, foot = width * 0.22, width * 0.78, height * 0.4, height * 0.72
    deep = height * 0.07
    draw.ellipse((left - 60, foot - deep + 30, right + 60, foot + deep + 44), fill=(216, 220, 222))
    draw.ellipse((left - 60, foot - deep + 16, right + 60, foot + deep + 30), fill=(246, 248, 248))
    draw.rectangle((left, top, right, foot), fill=(226, 142, 56))
    draw.ellipse((left, foot - deep, right, foot + deep), fill=(226, 142, 56))
    for _ in range(320):
        x = chance.uniform(left + 6, right - 6)
        y = chance.uniform(top + 30, foot + deep * 0.5)
        tone = _mix((198, 112, 38), (244, 176, 92), chance.random())
        draw.ellipse((x, y, x + chance.uniform(3, 8), y + chance.uniform(2, 5)), fill=tone)
    x = left
    while x < right - 10:
        wide = min(chance.uniform(40, 74), right - x)
        bow = deep * math.sqrt(max(0.0, 1 - ((x + wide / 2 - width / 2) / ((right - left) / 2)) ** 2))
        end = top + bow + chance.uniform(0.02, 0.2) * height
        draw.rounded_rectangle((x, top, x + wide, end), 22, fill=(84, 46, 28))
        x += wide - 8
    draw.ellipse((left, top - deep, right, top + deep), fill=(98, 56, 34))
    draw.arc(
        (left + 40, top - deep + 12, right - 60, top + deep - 16), 195, 285, fill=(160, 108, 78), width=9
    )
    for _ in range(90):
        angle, far = chance.uniform(0, math.tau), math.sqrt(chance.random()) * 0.86
        x = width / 2 + far * math.cos(angle) * (right - left) / 2
        y = top + far * math.sin(angle) * deep
        draw.ellipse(
            (x, y, x + 9, y + 5), fill=chance.choice(((246, 214, 120), (236, 120, 120), (250, 246, 238)))
        )
    return image


def moon(size: Size) -> Image.Image:
    """Draw the full moon over a palm tree."""
    width, height = size
    chance = _chance(13)
    image = _sky(size, [(0, (8, 14, 38)), (0.7, (30, 50, 96)), (1, (64, 84, 124))])
    draw = ImageDraw.Draw(image)
    for _ in range(170):
        x, y, star = chance.uniform(0, width), chance.uniform(0, height * 0.8), chance.choice((2, 2, 4))
        draw.ellipse((x, y, x + star, y + star), fill=_mix((140, 156, 196), (255, 255, 255), chance.random()))
    x, y, reach = width * 0.56, height * 0.36, width * 0.2
    image = _glow(image, (x, y), reach * 1.15, (110, 112, 104))
    draw = ImageDraw.Draw(image)
    draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=(246, 240, 216))
    seas, disc = Image.new("L", size), Image.new("L", size)
    ImageDraw.Draw(disc).ellipse((x - reach, y - reach, x + reach, y + reach), fill=255)
    spots = ImageDraw.Draw(seas)
    for _ in range(15):
        angle, far = chance.uniform(0, math.tau), math.sqrt(chance.random()) * reach * 0.8
        spot = chance.uniform(0.06, 0.24) * reach
        sx, sy = x + far * math.cos(angle), y + far * math.sin(angle)
        spots.ellipse((sx - spot, sy - spot * 0.8, sx + spot, sy + spot * 0.8), fill=110)
    image.paste((196, 186, 164), mask=ImageChops.multiply(seas.filter(ImageFilter.GaussianBlur(8)), disc))
    draw = ImageDraw.Draw(image)
    dark = (6, 12, 20)
    _fill_below(draw, _ridge(width, height * 0.9, height * 0.04, chance, 0.45), height, dark)
    crown = (width * 0.24, height * 0.56)
    trunk = [(width * 0.16 + (crown[0] - width * 0.16) * math.sin(step / 20 * math.pi / 2),
              height * 0.95 + (crown[1] - height * 0.95) * step / 20) for step in range(21)]  # fmt: skip
    draw.line(trunk, fill=dark, width=20, joint="curve")
    for angle in (-172, -145, -112, -74, -40, -12, 18, 160):
        turn = math.radians(angle)
        for step in range(26):
            far = step / 25 * width * 0.24
            fx = crown[0] + far * math.cos(turn)
            fy = crown[1] + far * math.sin(turn) * 0.7 + (step / 25) ** 2 * height * 0.09
            leaf = 30 * math.sin(math.pi * min(1.0, step / 25 + 0.08)) + 5
            draw.line((fx, fy, fx - 6, fy + leaf), fill=dark, width=9)
            draw.ellipse((fx - 5, fy - 5, fx + 5, fy + 5), fill=dark)
    return image


PICTURES: Final[dict[str, tuple[Callable[[Size], Image.Image], Size]]] = {
    "sunset": (sunset, (800, 600)),
    "sea": (sea, (800, 533)),
    "mountains": (mountains, (800, 500)),
    "coffee": (coffee, (640, 480)),
    "garden": (garden, (640, 480)),
    "city-night": (city_night, (720, 540)),
    "rain-window": (rain_window, (540, 720)),
    "plate": (plate, (600, 600)),
    "cake": (cake, (640, 640)),
    "moon": (moon, (480, 640)),
}


def main(folder: Path) -> None:
    """Draw every picture into ``folder`` as ``NAME.jpg``, in the best quality that stays small."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (drawn_by, (width, height)) in PICTURES.items():
        image = drawn_by((width * FINER, height * FINER)).resize((width, height), Image.Resampling.LANCZOS)
        target = folder / f"{name}.jpg"
        for quality in range(88, 40, -4):
            image.save(target, "JPEG", quality=quality, optimize=True)
            if target.stat().st_size <= LARGEST_BYTES:
                break
        else:
            raise SystemExit(f"{name} does not fit into {LARGEST_BYTES} bytes; draw it plainer")
        sys.stdout.write(f"{target.name}: {width}x{height}, {target.stat().st_size} bytes\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
