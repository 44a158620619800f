"""The words of file names: sessions, repeats, kinds of image, label maps, planes, classes, persons.

A word is whole if it stands between the ends of a name and any of `. _ - ( )` and blanks.
"""

import re

START, END = r"(?:^|(?<=[._ ()-]))", r"(?=$|[._ ()-])"  # of a word in a name


def whole_words(pattern: str) -> re.Pattern:
    """Returns a regular expression that finds whole words of a name."""
    return re.compile(f"{START}(?:{pattern}){END}", re.I)


# Words that begin as BIDS' names of persons do, but name nobody.
PART = r"sub-(?:(?:set|group|cohort|sample)s?\d?|sampled|cortical)(?![^_./])"
# Names of persons that are known wherever they stand in a path: OASIS, ADNI, IXI, BraTS, BIDS, …
KNOWN_NAMES = [
    re.compile(pattern, re.I)
    for pattern in (
        r"(?P<subject>OAS[12]_\d{4})(?:_(?P<session>MR\d+))?",
        r"(?:sub-)?(?P<subject>OAS3\d{4})(?:_(?P<session>MR_d\d+))?",
        r"(?P<subject>\d{3}_S_\d{4,5})",
        r"(?P<subject>IXI\d{3})(?!\d|Space)",
        r"(?P<subject>BraTS\d\d_(?:CBICA|TCIA\d*|2013)_[A-Z0-9]+_\d)(?![A-Z0-9])",
        r"(?P<subject>BraTS\d*(?:[-_][A-Z]{2,5})?[-_]\d{3,5})(?:-(?P<session>\d{3})(?!\d))?",
        r"(?P<subject>miriad_\d{3})(?:_[A-Z]+_[FM]_(?P<session>\d\d))?",
        r"(?<!\d)(?P<subject>\d{7})_\d{5}_(?P<session>\d_\d)(?!\d)",  # UK Biobank
        r"(?P<subject>case_\d+)",
        rf"(?!{PART})(?:^|(?<=[._ ])(?=[^_./]*\d))(?P<subject>sub-[^_./]+)",
    )
]

# Sessions: dates, and visits counted, in time after the first, or by name. A single letter is a
# visit's only behind something else, for `S01_90.png` is a person.
YEAR, MONTH, DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
NAMED_MONTH = f"(?:{'|'.join(MONTHS)})[a-z]*"
TIME = r"(?:[-_T ]?\d\d[-_:.]?\d\d[-_:.]?\d\d(?:\.?\d+)?)?"
DATE = (
    rf"{YEAR}(?P<mark>[-_.]?){MONTH}(?P=mark){DAY}|{YEAR}-\d?\d-\d?\d|(?<=[._ -]){YEAR}-\d\d|"
    rf"(?:{DAY}[-._]?{MONTH}|{MONTH}[-._]?{DAY})[-._]?{YEAR}|"
    rf"(?:\d?\d[-._ ]?)?{NAMED_MONTH}[-._ ]?{YEAR}|{YEAR}[-._ ]?{NAMED_MONTH}(?:[-._ ]?\d?\d)?|"
    rf"\d?\d(?P<between>[-.])\d?\d(?P=between){YEAR}|{YEAR}[._ -]?Q[1-4]|"
    rf"(?<![\d.]\.)(?:{DAY}(?P<dot>[-.]){MONTH}(?P=dot)|{MONTH}(?P<dash>[-.]){DAY}(?P=dash))\d\d"
    r"(?!\.\d)"
)
VISIT = (
    r"(?:ses|sess|session|vis|visit|scan|tp|timepoint|time|month|year|yr|wave|day|week|wk|"
    r"exam|study|acq|series)[._ -]?\d+|(?:vis|visit)[._ -]?[a-e]|"
    r"(?<=[._ -])(?:mri?\d+|[msvy]\d{1,2}|d\d{2,4}|t[03-9])|"
    r"\d{1,2}(?:mo?|mos|months?|y|yrs?|years?|wks?|weeks?)|"
    r"baseline|base|bl|screening|follow-?up(?:[._ -]?\d)?|fu(?:[._ -]?(?:\d{3}d|\d{1,2}(?!\d)))?|"
    r"pre-?op|post-?op|(?<!t1[._ -])(?<!t1w[._ -])(?:pre|post)|before|after|first|second|third|"
    r"1st|2nd|3rd|(?:re)?test(?=$|[._-])"
)
SESSION = whole_words(rf"(?:(?P<session>ses-[a-z0-9]+|{DATE}|{VISIT})(?:(?<=\d){TIME})?)")
REPEAT = whole_words(
    r"(?P<repeat>(?:run|mpr|rep|repeat|take|echo|ch|channel|vol)[._ -]?\d+|repeat|"
    r"(?<=[._ -])(?:S\d{3,6}|I\d{4,8}|[ec]\d))"
)
AUGMENTED = whole_words(
    r"(?<!desc-)(?:aug|augment|augmented|"
    r"(?:[hv]|horizontal_|vertical_)?flip(?:ped|_?[hvlrud]{1,2})?|mirror|"
    r"mirrored|rot|rotated?|rotation|shift|shifted|translated?|translation|(?:gaussian_)?noise|"
    r"noisy|blur|blurred|bright|brightness|gamma|contrast(?=[._ -]?\d)|clahe|histeq|zoom|zoomed|"
    r"crop|cropped|shear|sheared|scaled?(?=[._ -]?\d)|elastic|transposed?|mixup|synthetic|copy|"
    r"kopie)[._ -]?[+-]?[\d.]*|"
    r"rf\.[0-9a-f]{16,}"
)

# Words that name a kind of image or a label map, not a person.
CONTRAST = (
    r"t1|t1w|t2|t2w|t2star|t2f|t1ce|t1c|t1n|t1gd|flair|pd|pdw|mprage|mp-?rage|spgr|flash|swi|dwi|"
    r"adc|bold|asl|cbf|fa|md|pet|ct|angio|mra|inplanet2|unit1|mp2rage|qsm|tof|dti|t2space|t2flair|"
    r"localis?z?er|scout|survey|sbref|epi|field_?map"
)
LABELS = (
    r"seg\d*|segs|segm|segmentations?|aseg|dseg|pseg|fseg|probseg|labels?|labelmap|lbl|masks?|"
    r"ribbon|pve\w*|pves|parc|parcellations?|aparc(?:\+aseg)?|wmparc|tissues?|roi|lesions?|annot|"
    r"[lr]h|warp|warps|warpfield|xfm|transforms?|jacobian|displacement|deformation|"
    r"m?wc[1-6]|m?wp[0-3]|gm|wm|csf|filled|defacemask|brainmask|gr[ae]y[_ ]?matter|"
    r"white[_ ]?matter|jacobians|thickness|curv|sulc|dartelinput|prob(?:ability)?[_ ]?maps?|"
    r"probability"
)
IMAGES = (
    r"slices?|axial|axl|ax|tra|trans|transversal|coronal|cor|sagittal|sag|images?(?:tr|ts)?|img|im|"
    r"frame|z|mri|scans?|vol|volumes?|raw|anat|mpr|nifti|nii|png|jpe?g|dicom|data|dataset|brains?|"
    r"orig|original|norm|aligned|preproc|stripped|skullstripped|[137](?:\.5)?t"
)
B_VALUE = r"b(?:0|[1-9]\d?[05]0)"  # of diffusion
KIND = re.compile(rf"(?:^|[._ -])(?:{CONTRAST}|{LABELS}|{IMAGES})(?=$|[._ ()-]|\d+$)", re.I)
KIND_OF_VOLUME = re.compile(
    rf"(?:^|[._ -])(?:{CONTRAST}|{LABELS}|{IMAGES})\d*{END}|[._ -]{B_VALUE}{END}", re.I
)
# Words that may also say where or of whom a brain is.
DOUBTFUL_LABEL = whole_words(
    r"[lr]h|gm|wm|csf|filled|tissues?|roi|lesions?|tumou?rs?|manual|gt|labels?|masks?"
)
CONTRAST_WORD, LABEL_WORD, IMAGE_WORD = map(whole_words, (CONTRAST, LABELS, IMAGES))
T1_WORD = re.compile(r"t1|t1w|t1n|mp-?rage|spgr|mpr", re.I)
# The tissue maps and the warps of SPM and CAT12, `c1sub-01` or `mwp1P01`, and their other images.
SPM_TISSUE = re.compile(r"(?:s\d*)?[mwr]*[cp][0-6](?=\w)|i?y_|u_rc1")
SPM_IMAGE = re.compile(r"(?:s\d*)?(?:wm|m|w|r)(?=\w)")
# Every word of a template's name says that it is nobody's.
TEMPLATE = re.compile(
    r"(?:mni|icbm|colin|avg)\d+\w*|mni|icbm|templates?|atlas|average|fsaverage\d?", re.I
)
TEMPLATE_REST = re.compile(
    rf"{CONTRAST}|{LABELS}|{IMAGES}|\d*mm|\d+|a?sym|n?lin|head|skull|mean|09[a-c]", re.I
)
PLANES = {
    "axial": whole_words(r"axial|axl|ax|tra|trans|transversal|transverse"),
    "coronal": whole_words(r"coronal|cor"),
    "sagittal": whole_words(r"sagittal|sag"),
}

# The number of a slice that is not at the end of a picture's name.
SLICE = re.compile(
    rf"{START}(?:(?:slice|slc)[._ -]?(?P<slice>\d+)(?:_of_\d+)?|"
    rf"(?P<of>\d+)[._ -]?of[._ -]?\d+|(?<=[_ ])(?P<signed>[+-]\d+)mm|"
    rf"[xyz](?P<place>[+-]?\d+)|[xyz](?P<mm>[+-]\d+)mm){END}|\[(?P<bracket>\d+)\]$",
    re.I,
)
SLICE_BEFORE_PERSON = re.compile(r"^(?P<slice>\d+)[._ -]+(?=[a-z]+[._ -]?\d+$)", re.I)
SLICE_IN_FRONT = re.compile(r"[xyz]\d", re.I)  # or a person: `X01`
S_AND_NUMBER = re.compile(r"s\d+", re.I)  # a scan, a session or a subject
# A visit or repeat whose number, at the end of a picture's name, may be that of a slice.
NUMBER_AT_END = re.compile(
    r"(?P<who>.*(?:[a-z]|^)\d+)[._ -]+(?P<word>[a-z]+)[._ -]?(?P<number>\d{1,3})", re.I
)
FOLLOW_UP = re.compile(r"(?<=[._ -])(?P<visit>follow-?up|fu)[._ -](?=\d{1,3}(?!\d))", re.I)
JOINED = re.compile(r"(?<=\d)(?=(?:ses|session|vis|visit|slice|[vz])\d)", re.I)
# Visits that no separator parts from the person: `P01bl`, `P01V1`, `pre1`, `V1_P01`.
JOINED_WORD = re.compile(
    r"(?<=\d)(?=(?:(?:ses|sess|session|vis|visit|scan|tp|time|timepoint|wave)\d+|baseline|bl|"
    r"(?:follow-?up|fu|pre|post)\d{0,2})(?:$|[._ -]))",
    re.I,
)
JOINED_LETTER = re.compile(
    r"(?<=\d)(?<!\d{8})[mstvwy]\d{1,2}(?=$|[._ -])|(?-i:(?<=[a-z])[MTVW]\d(?=$|[._ -]))", re.I
)
IN_FRONT = re.compile(r"(?:pre|post|bl|baseline|fu|follow-?up|before|after)(?=\d)", re.I)
FRONT_VISIT = re.compile(
    rf"(?P<visit>[mstvwy]\d{{1,2}}|{YEAR}|\d\d{MONTH}{DAY})[._ -]+"
    r"(?P<rest>[a-z]+[._ -]?\d[^._ -]*|\d{3,}|(?<=^[vw]\d_)\d\d)",
    re.I,
)
# The number of a series behind the time of an exam, in the names that dcm2niix gives.
SERIES = re.compile(r"\d{14}(?P<series>_\d{1,4}[a-z]?)$")
SUFFIXES = re.compile(r"(?:\.(?:nii|gz|mg[hz]|nifti|png|jpe?g|tiff?|hdr|img))+$", re.I)
# In `Brats18_2013_10_1`, 2013 is a site.
YEAR_MONTH = re.compile(
    rf"(?<!brats\d\d[._ -])(?<=[._ -])(?P<year>{YEAR})_(?P<month>{MONTH})(?=$|[._ -])", re.I
)
UPLOAD = re.compile(r"_(?:Br|Raw)_\d{14,}", re.I)  # when ADNI got an image, not when it was taken
DOWNLOAD = re.compile(r" ?\(\d+\)$")  # what a browser adds to the name of a second download
COPY_OF = re.compile(r"^(?:copy of|kopie von|copie de) ", re.I)

# Folders
SPLIT_FOLDER = re.compile(
    r"(?!sub-|ses-)(?:.*[ _-])?(?:(?P<train>^tr|train(?:ing)?)|"
    r"(?P<validation>^va|val(?:id(?:at(?:e|ion))?)?|dev)|(?P<test>^te|test(?:ing)?))"
    r"(?:[ _-]?(?:set|data))?",
    re.I,
)
SPLIT_PREFIX = re.compile(
    r"^(?:(?P<train>train(?:ing)?)|(?P<validation>val(?:id(?:ation)?)?)|"
    r"(?P<test>test(?:ing)?))[_-]",
    re.I,
)
LABEL_FOLDER = re.compile(
    r"(?:labels?|masks?|seg(?:s|mentations?)?|infer|pred(?:s|ict(?:ed|ions?))?)(?:_?t[rs])?|"
    r".+[._ -](?:labels|masks|segs|segmentations)|annotations?|"
    r"contours?|rois?|lesions?|tumou?rs?|manual|ground[_ -]?truths?|gt|"
    r"[gw]m|csf|(?:gr[ae]y|white)[_ -]?matter|jac(?:obians?)?|thickness|"
    r"y[_-](?:train|val|test)\w*",
    re.I,
)
# What is drawn of other images.
DRAWN_WORD = whole_words(
    r"overlays?|edges?|thumb(?:nail)?s?|mosaics?|montages?|previews?|snapshots?|screenshots?|"
    r"heat[_ ]?maps?|grad-?cam"
)
COLLECTION = re.compile(r"(?P<name>.+)[._ -](?:volumes|images|scans|subjects|data)", re.I)
IMAGE_FOLDER = re.compile(r"images_?t[rs]", re.I)  # of nnU-Net, with a channel in each name
CHANNEL = re.compile(r"(?:^|_)(0\d{3})$")
# Places and times that hold several persons.
PLACE = re.compile(
    r"(?:sub-?set|sub-?group|sub-?cohort|site|cent(?:er|re)|hospital|clinic|scanner|batch|cohort|"
    r"part|dis[ck]|fold|release)[._ -]?\w*|(?:19|20)\d\d",
    re.I,
)
# Words of folders that say what somebody has, not who somebody is.
CLASS_WORD = re.compile(
    r"class|group|label|diagnosis|[es]?ad|ftl?d|[pd]lb|lbd|pd|als|ms|nc|cn|hc|ctrls?|[elps]?mci|"
    r"smc|scd|scz?|asd|adhd|td|bd|mdd|very|no|non|not|mild|moderate|severe|early|late|cdr|"
    r"possible|probable|healthy|normals?|cognitive(?:ly)?|alzheimer'?s?|parkinson'?s?|brain|"
    r"glioma|meningioma|pituitary|with|without|diseased?|positive|negative|young|old|elderly|male|"
    r"female|men|women|patients?|controls?|(?:no|(?:very)?mild|moderate)?impair(?:ed|ment)|"
    r"dementia|verymild|(?:no)?tumou?rs?|(?:non|very)?(?:mild|moderate)?dem(?:ented)?|"
    r"cancer|stroke|schizophrenia|autism|depression|epilepsy|lesions?|cases|subjects|yes|stable|"
    r"converters?|converted|progressive|and|vs",
    re.I,
)
NUMBERED_CLASS = re.compile(
    r"(?:class|group|grade|label|cdr)[._ -]?\d(?:\.\d)?|[1-9]0-[1-9][09]|[1-9]0\+", re.I
)
# Words beside those of a class.
BESIDE_CLASS = re.compile(rf"{IMAGES}|final|augmented|sets?|new|my|\d", re.I)

# Persons
NOBODY = re.compile(r"sub|subj|subject|pat|patient|person|case|participant|volunteer|id|p|s", re.I)
PERSON_WORD = re.compile(
    r"(?:sub|subj|subject|pat|patient|person|case|participant|volunteer|id)[ ._-]?\w*\d", re.I
)
# Names that computers make up name nobody.
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
MADE_UP = re.compile(rf"{UUID}|[0-9a-f]{{16,64}}", re.I)
BESIDE_NAME = re.compile(rf"^{UUID}[._ -]+|[._ -]+{UUID}$", re.I)
