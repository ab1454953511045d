"""The images and references of a run as requests to extract features, with what each model should see next to them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from evalkit.metric_spec.metric_card import MetricCard
from evalkit.run.image_records import ImageFile, ImageRecord
from evalkit.run.manifest import Case, Manifest
from evalkit.scoring.concept_comparison import phrases_by_reference
from evalkit.scoring.feature_comparison import pairs_wanted, texts_wanted
from evalkit.scoring.feature_extraction import file_loader
from evalkit.scoring.image_requests import FeatureRequest
from evalkit.scoring.metric_task import referenced
from evalkit.scoring.pixel_pairs import NO_PARTNERS, Partners

# What metrics that compare images with references need.
OF_REFERENCES = ("references", "image_pair", "concepts")


def count_images(manifest: Manifest) -> int:
    """Return how many pictures there are to score: the different ones of each case, and the references."""
    return sum(len({image.sha256 for image in images}) for _, images in manifest.by_case()) + len(_shown(manifest))


def requests_of_cases(run: Path, manifest: Manifest, cards: Sequence[MetricCard]) -> Iterator[FeatureRequest]:
    """Yield the different pictures of each case, with the models that should see them, seed by seed."""
    models = tuple(dict.fromkeys(card.model for card in cards))
    for case, images in manifest.by_case():
        pairs = pairs_wanted(manifest, cards, case, images)
        texts = texts_wanted(manifest, cards, case)
        different: dict[str, ImageFile] = {}
        for image in sorted(images, key=lambda image: image.seed):
            different.setdefault(image.sha256, image)
        for key, picture in different.items():
            partners = {model: known[key] for model, known in pairs.items() if key in known}
            yield FeatureRequest(key, picture.path, file_loader(run / picture.path, key), models, partners, texts)


def requests_of_references(run: Path, manifest: Manifest, cards: Sequence[MetricCard]) -> Iterator[FeatureRequest]:
    """Yield the different references of all cases, with the models that should see them."""
    models = tuple(dict.fromkeys(card.model for card in cards if card.needs in OF_REFERENCES))
    shown = _shown(manifest)
    partners = _partners(manifest, [card for card in cards if card.needs == "image_pair"], shown)
    detectors = dict.fromkeys(card.model for card in cards if card.needs == "concepts")
    phrases = phrases_by_reference(manifest) if detectors else {}
    for key, picture in shown.items():
        texts = dict.fromkeys(detectors, phrases.get(key, ()))
        yield FeatureRequest(key, picture.path, file_loader(run / picture.path, key), models, partners.get(key, {}), texts)


def _partners(
    manifest: Manifest, cards: Sequence[MetricCard], shown: Mapping[str, ImageFile]
) -> dict[str, dict[str, Partners]]:
    """Return for each reference (by sha256) and each model that compares two images the images it is compared with."""
    partners: dict[str, dict[str, Partners]] = {}
    for case, images in manifest.by_case() if cards else ():
        for model, others in pairs_wanted(manifest, cards, case, images).items():
            for key in others.keys() & shown.keys():
                by_model = partners.setdefault(key, {})
                by_model[model] = by_model.get(model, NO_PARTNERS) | others[key]
    return partners


def _shown(manifest: Manifest) -> dict[str, ImageFile]:
    """Return the references of all cases by their sha256."""
    return {
        reference.sha256: reference
        for case in manifest.cases
        for _, references in referenced(manifest, case)
        for reference in references
    }


def request_groups(
    run: Path, manifest: Manifest, cards: Sequence[MetricCard], batch_size: int
) -> Iterator[list[FeatureRequest]]:
    """Yield the pictures of whole cases in groups that fill a batch at least.

    A reference belongs to the first group that needs it.
    """
    root, done = run.absolute(), set[str]()
    cases: list[Case] = []
    images: list[ImageRecord] = []
    for case, own in manifest.by_case():
        cases.append(case)
        images.extend(own)
        if case is manifest.cases[-1] or len(images) >= batch_size:
            part = manifest.model_copy(update={"cases": tuple(cases), "images": tuple(images)})
            references = [
                item
                for item in requests_of_references(root, part, cards)
                if item.partners or item.texts or item.key not in done
            ]
            done.update(item.key for item in references)
            yield [*requests_of_cases(root, part, cards), *references]
            cases, images = [], []
