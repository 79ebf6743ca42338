"""Small sets laid out exactly as the published ones, of people who are one colour each."""

import json

import numpy as np
from scipy.io import savemat
from shades import shade_of, write_shades

PEOPLE = 12
AGEDB = "04_FINAL_protocol_30_years.mat"


def write_cfp(folder, genuine="1,2", impostor="1,11"):
    """Twelve people, ten frontal and four profile images each, one pair of a kind a fold."""
    kinds = (("F", "frontal", 10), ("P", "profile", 4))
    for letter, kind, count in kinds:
        lines = [
            f"{count * person + image} ../Data/Images/{person + 1:03d}/{kind}/{image:02d}.jpg"
            for person in range(PEOPLE)
            for image in range(1, count + 1)
        ]
        (folder / f"Pair_list_{letter}.txt").write_text("\n".join(lines) + "\n")
    for kind in ("FF", "FP"):
        for fold in range(1, 11):
            place = folder / "Split" / kind / f"{fold:02d}"
            place.mkdir(parents=True)
            (place / "same.txt").write_text(f"{genuine}\n")
            (place / "diff.txt").write_text(f"{impostor}\n")
    return folder


def write_cfp_images(folder):
    return write_shades(
        folder,
        {
            f"{person + 1:03d}/{kind}/{image:02d}.png": shade_of(person, image)
            for person in range(2)
            for kind, count in (("frontal", 10), ("profile", 4))
            for image in range(1, count + 1)
        },
    )


def write_crossed(folder, name, mark="1", people=10, replace=()):
    """Ten genuine pairs, then ten impostors, of images "Person_7_0001.jpg"."""
    lines = []
    for person in range(people):
        lines += [f"Person_{person}_0001.jpg {mark}", f"Person_{person}_0002.jpg {mark}"]
    for person in range(people):
        other = (person + 1) % people
        lines += [f"Person_{person}_0001.jpg 0", f"Person_{other}_0002.jpg 0"]
    for number, line in replace:
        lines[number - 1] = line
    (folder / name).write_text("\n".join(lines) + "\n")
    return write_shades(
        folder,
        {
            f"Person_{person}_000{image}.jpg": shade_of(person, image)
            for person in range(people)
            for image in (1, 2)
        },
    )


def write_agedb(folder, names=None, labels=(1, -1, 1, -1), folds=10):
    """`splits` as published: cells of a structure of 2 x N cells of structures, and labels."""
    splits = np.empty((folds, 1), object)
    for fold in range(folds):
        pairs = np.empty((2, len(labels)), object)
        for column, label in enumerate(labels):
            other = fold if label == 1 else (fold + 1) % folds
            pair = names or [f"{fold}_Ada_{30 + column}_1_f", f"{other}_Ada_{60 + column}_2_f"]
            for row, name in enumerate(pair):
                pairs[row, column] = {"name": name, "age": 30 + column}
        splits[fold, 0] = {"pairs": pairs, "labels": np.array(labels)}
    savemat(folder / AGEDB, {"splits": splits})
    return folder


def write_agedb_images(folder, folds=10, columns=4):
    return write_shades(
        folder,
        {
            f"{person}_Ada_{age + column}_{image}_f.jpg": shade_of(person, image)
            for person in range(folds)
            for column in range(columns)
            for age, image in ((30, 1), (60, 2))
        },
    )


YTF_LIST = """split number, pair number, first name, second name, is same
1, 1, Ada/0, Ada/2, 1
1, 2, Ada/0, Bob/1, 0
2, 1, Bob/1, Bob/3, 1
2, 2, Bob/3, Ada/2, 0
"""


def write_ytf(folder, text=YTF_LIST, name="splits.txt"):
    (folder / name).write_text(text)
    frames = {"Ada/0": 3, "Ada/2": 1, "Bob/1": 2, "Bob/3": 2}
    return write_shades(
        folder,
        {
            f"{video}/{frame}.jpg": shade_of("AB".index(video[0]), frame)
            for video, count in frames.items()
            for frame in range(count)
        },
    )


IJBA_HEADER = "TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID,SIGHTING_ID,GENDER,SKIN_TONE"


def ijba_rows(people, number=lambda person: 10 * person + 1):
    """A template a person: a still and two frames of a video; and a second one of a still."""
    rows = []
    for person in people:
        first = number(person)
        rows += [
            f"{first},{person},img/{person}.jpg,{person},{100 + person},1,2",
            f"{first},{person},frame/{person}_00000.png,9{person},{200 + person},1,2",
            f"{first},{person},frame/{person}_00030.png,9{person},{300 + person},1,2",
            f"{first + 1},{person},img/{person}_b.jpg,8{person},{400 + person},1,2",
        ]
    return rows


def ijba_images(folder, people):
    names = ("img/{0}_{1}.jpg", "frame/{0}_00000_{2}.png", "frame/{0}_00030_{3}.jpg")
    return write_shades(
        folder,
        {
            name.format(person, 100 + person, 200 + person, 300 + person): shade_of(person, place)
            for person in people
            for place, name in enumerate((*names, f"img/{{0}}_b_{400 + person}.jpg"))
        },
    )


def write_ijba(folder):
    for split, people in ((1, (1, 2, 3)), (4, (3, 4))):
        place = folder / "IJB-A_11_sets" / f"split{split}"
        place.mkdir(parents=True)
        (place / f"verify_metadata_{split}.csv").write_text(
            "\n".join([IJBA_HEADER, *ijba_rows(people, lambda person: 10 * person + 1)]) + "\n"
        )
        pairs = [f"{10 * p + 1},{10 * q + 2}" for p in people for q in people]
        (place / f"verify_comparisons_{split}.csv").write_text("\n".join(pairs) + "\n")
        place = folder / "IJB-A_1N_sets" / f"split{split}"
        place.mkdir(parents=True)
        rows = ijba_rows(people)
        gallery = [row for row in rows if row[1] == "1" and not row.startswith("31,")]
        (place / f"search_gallery_{split}.csv").write_text("\n".join([IJBA_HEADER, *gallery]))
        probes = [row for row in rows if row[1] == "2"]
        (place / f"search_probe_{split}.csv").write_text("\n".join([IJBA_HEADER, *probes]))
    ijba_images(folder, (1, 2, 3, 4))
    return folder


def write_ijb(folder, name, galleries, insightface):
    """Four people, two in each gallery; probes 100 + person; a video of two frames each."""
    columns = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID,FACE_X"

    def rows(template, person, sighting):
        files = (f"img/{template}.jpg", f"frames/{template}_1.png", f"frames/{template}_2.png")
        return [
            f"{template},{person},{file},{sighting + (place > 0)},3"
            for place, file in enumerate(files)
        ]

    tables = {f"gallery_{galleries[0]}": (1, 2), f"gallery_{galleries[1]}": (3, 4)}
    lines, shades = [], {}
    for table, people in {**tables, "probe_mixed": (101, 102, 103, 104)}.items():
        found = []
        for template in people:
            person = template % 100
            found += rows(template, person, 10 * template)
            for place, row in enumerate(found[-3:]):
                _, _, file, sighting, _ = row.split(",")
                stem, ending = file.split(".")
                image = f"{len(lines) + 1}.jpg" if insightface else f"{stem}_{sighting}.{ending}"
                shades[image] = shade_of(person, place + (template > 100))
                lines.append(f"{image} {template} {sighting}")
        (folder / f"{name}_1N_{table}.csv").write_text("\n".join([columns, *found]) + "\n")
    pairs = [(g, p) for g in (1, 2, 3, 4) for p in (101, 102, 103, 104)]
    if insightface:
        (folder / f"{name}_face_tid_mid.txt").write_text("\n".join(lines) + "\n")
        label = "\n".join(f"{g} {p} {int(g == p % 100)}" for g, p in pairs)
        (folder / f"{name}_template_pair_label.txt").write_text(label + "\n")
        points = " ".join(["1.5"] * 10)
        scores = [f"{line.split()[0]} {points} 0.{90 + i}" for i, line in enumerate(lines[:9])]
        scores += [f"{line.split()[0]} {points} 0.5" for line in lines[9:]]
        (folder / f"{name}_name_5pts_score.txt").write_text("\n".join(scores) + "\n")
    else:
        file = f"{name}_11_{galleries[0]}_{galleries[1]}_matches.csv"
        (folder / file).write_text("\n".join(f"{g},{p}" for g, p in pairs) + "\n")
    write_shades(folder, shades)
    return folder


def write_ijbc_covariates(folder):
    """Six people of two images each, every pair of them."""
    columns = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID,GENDER,SKINTONE,AGE,INDOOR_OUTDOOR"
    people = range(6)
    lines = [
        f"{2 * person + image},{person},img/{person}{image}.jpg,7,{person % 2},1,,1,0"
        for person in people
        for image in (0, 1)
    ]
    table = "\n".join([f"{columns},FACIAL_HAIR", *lines])
    (folder / "ijbc_11_covariate_probe_reference.csv").write_text(table)
    pairs = [(a, b) for a in range(12) for b in range(a)]
    text = "\n".join(f"{a},{b}" for a, b in pairs)
    (folder / "ijbc_11_covariate_matches.csv").write_text(text)
    shades = {f"img/{p}{i}_7.jpg": shade_of(p, i) for p in people for i in (0, 1)}
    write_shades(folder, shades)


def write_blufr(folder, **changed):
    """Eight people of three images; two trials of six people, four of them in the gallery."""
    names = [f"Ada_{person}_000{image}.jpg" for person in range(8) for image in (1, 2, 3)]
    cells = {name: np.empty((2, 1), object) for name in ("testIndex", "galIndex", "probIndex")}
    for trial, people in enumerate(([0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 6, 7])):
        test = np.array([3 * person + image for person in people for image in range(3)]) + 1
        gallery = np.array([3 * person for person in people[:4]]) + 1
        cells["testIndex"][trial, 0] = test[:, None]
        cells["galIndex"][trial, 0] = gallery[:, None]
        cells["probIndex"][trial, 0] = np.setdiff1d(test, gallery)[:, None]
    image_list = np.empty((24, 1), object)
    image_list[:, 0] = names
    config = {"imageList": image_list, "labels": np.repeat(np.arange(1, 9), 3)[:, None], **cells}
    savemat(folder / "blufr_lfw_config.mat", {**config, **changed})
    shades = {f"{name[:5]}/{name}": shade_of(int(name[4]), 9 * int(name[-5])) for name in names}
    return write_shades(folder, shades)


def write_megaface(folder):
    """Three people of three images among ten distractors; one image of each kind is wrong."""
    people = ("Ada", "Bob", "Cy")
    probes = [f"{name}/{name}_{image}.png" for name in people for image in (1, 2, 3)]
    record = {"path": probes, "id": [name.split("/")[0] for name in probes]}
    (folder / "facescrub_features_list.json").write_text(json.dumps(record))
    distractors = [f"{i % 3}/owner{i}@N0/{i}.jpg_0.jpg" for i in range(10)]
    for size in (10, 100):
        name = f"megaface_features_list.json_{size}_1"
        (folder / name).write_text(json.dumps({"path": distractors}))
    (folder / "facescrub_noises.txt").write_text("# wrong\nBob_2.png\nGone_7.png\n")
    (folder / "megaface_noises.txt").write_text("# wrong\n12\t1/owner4@N0/4.jpg_0.jpg\n")
    shades = {
        f"facescrub_images/{name}": shade_of(place // 3, 4 * (place % 3))
        for place, name in enumerate(probes)
    }
    shades["facescrub_images/Bob/Bob_2.png"] = shade_of(40)
    for place, name in enumerate(distractors):
        shades[f"megaface_images/{name}"] = shade_of(2 if place == 4 else 20 + place, place % 2)
    return write_shades(folder, shades)


def write_trillion(folder, count=7):
    names = [f"test/{index}.jpg" for index in range(count)]
    points = " ".join(["31.5"] * 10)
    (folder / "testdata_lmk.txt").write_text("".join(f"{name} {points}\n" for name in names))
    return write_shades(folder, {name: shade_of(place) for place, name in enumerate(names)})
