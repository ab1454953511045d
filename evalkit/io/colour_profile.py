"""Conversion of images with an embedded ICC colour profile to sRGB, through LittleCMS."""

import io

from PIL import Image, ImageCms

from evalkit.errors import first_line

# A profile of sRGB itself: its pixels stay as they are.
SRGB = "srgb"
MODES = ("RGB", "RGBA", "L", "LA", "CMYK", "P", "PA")


def to_srgb(image: Image.Image) -> tuple[Image.Image, str]:
    """Return the image in sRGB and a note, which is empty if the image has no colour profile, or one of sRGB.

    Colours outside sRGB are clipped (relative colorimetric intent). Alpha is kept.
    """
    data = image.info.get("icc_profile")
    if not data or image.mode not in MODES:
        return image, ""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        name = ImageCms.getProfileDescription(profile).strip() or "without a name"
        if name.lower().startswith(SRGB):
            return image, ""
        converted = _converted(image, profile)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        return image, f"colour profile ignored, it is damaged or of another kind ({first_line(error)})"
    converted.info.pop("icc_profile", None)
    return converted, f"colour profile {name}, converted to sRGB"


def _converted(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if image.mode in ("P", "PA", "RGBA"):
        opaque = image.convert("RGBA").convert("RGB")
    elif image.mode == "LA":
        opaque = image.getchannel("L")
    else:
        opaque = image
    target = ImageCms.createProfile("sRGB")
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    converted = ImageCms.profileToProfile(opaque, profile, target, renderingIntent=intent, outputMode="RGB")
    if converted is None:
        raise ValueError("no conversion")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted
