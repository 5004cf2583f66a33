"""Words for printed lines: what receipts, invoices, letters and forms say, in five languages, and made-up ones."""

from __future__ import annotations

from vlmrecipes.data.sources.synthetic.dice import Dice


def _split(words: str) -> tuple[str, ...]:
    return tuple(words.split())


BUSINESS = _split(
    """
    account address admin agent amount approved article attention auth authorised balance bank barcode batch
    bill billing box branch buyer cancelled card carton cash cashier category change charge checkout cheque city
    clerk client code comment company condition contact copy cost counter country coupon credit currency
    customer date deal debit delivery department deposit description desk details discount document due
    duplicate duty email entry excluding exchange excluded expiry fax fee final float free gift goods grand
    gross group guest head holder hotline hours inclusive included information interest invoice issued item
    items keep label ledger licence line list location loyalty machine manager master member merchant message
    method minimum mobile monthly name net nett next note notice number office officer online open operator
    option order original outlet outstanding package page paid particulars payable payment per percent period
    person phone points policy postcode prepared price print printed product promotion proof purchase quantity
    quote rate receipt received reference refund register remark rental report reprint required reserved return
    returned returnable reward round rounding salary sale sales saving savings seller serial served server
    service settlement shift ship shipping shop signature site slip staff standard state statement station
    status stock store street subtotal sum summary supplier supply surcharge table tare tax taxable telephone
    tender tendered terminal terms ticket till time token total transaction transfer trolley type unit unpaid
    user valid value vat vendor verified visit void voucher waiter waiting warehouse warranty website weekly
    weight welcome wholesale zero zone adj adm amt bal chg disc doc incl excl inv misc pcs pkt ptd pte qty ref
    reg sdn bhd gst sst sub tel ttl txn llc ltd inc plc gmbh cif nif iban bic swift visa
    """
)
GOODS = _split(
    """
    apple bacon bag ball banana basil battery bean beef beer belt biscuit black blue board boat bolt book bottle
    bowl brass bread brick bright brown brush bucket bulb burger butter button cable cake candle candy can cap
    carpet carrot cement chain chair cheese cherry chicken chilli chips chocolate cider clay clean clear clip
    clock cloth cocoa coconut coffee cola cold cookie copper corn cotton cream crisp cup curry cutter dairy
    deluxe diesel dish door double drill drink dry duck egg elbow envelope extra fabric family fan fibre file
    film fish flat flour flower foil folder fork fresh fried frozen fruit fuel garden garlic gas ginger glass
    glove glue gold grape green grey grill ham hammer handle hat herbal hinge honey hook hose hot ice ink iron
    jacket jam jar jelly juice jumbo junior ketchup key kit kitchen knife lace lamb lamp large latte leaf
    leather lemon lettuce light lime lock mango marker mat meal meat medium melon metal milk mineral mini mint
    mix mushroom mustard nail napkin natural noodle nut oat oil olive onion orange organic oyster pad paint pan
    paper parking pasta paste pea peach peanut pear pen pencil pepper petrol pie pin pipe pizza plain plank
    plate plug plum plus polish pork pot potato powder prawn premium pump pure quick rack red regular ribbon
    rice ring roast rod roll rope round rubber ruler salad salt sand sauce sausage scissors screw sealer sesame
    set shampoo sheet shelf shirt shoe silver single size skirt small soap sock soda soft sole soup soy spice
    spicy sponge spoon spray spring squid stainless steak steel stick sticker strawberry sugar super sweet
    switch syrup tank tape tart tea thread tile timber tin tissue toast tofu tomato tool top towel toy tray
    trousers tube tuna tuner turkey twin ultra vanilla vegetable vinegar walnut wash water wax wheat wheel white
    wide wine wire wood wool wrap yellow yoghurt zinc zip
    """
)
COMMON = _split(
    """
    a about above after again against all allow also always am an and another any are around as ask at away back
    be because been before began being below best better between both bring but by call came can change child
    close come could course cut day did different do does done down each early easy either else end enough even
    ever every example eye face fact far few find first follow food for form found four from full gave get give
    go good great had half hand happy has have he head hear help her here high him his home house how however
    hundred if important in into is it its just keep kind know land large last late later learn leave left less
    let letter life light like little live long look low made make man many may mean might mind more morning
    most mother move much must my near need never new night no north nothing now of off often old on once one
    only open or other our out over own page part people perhaps place plan please point possible problem public
    put question quite rather read ready real reason rest right river room round run said same saw say school
    sea second see seem sent several shall she should show side since small so some something soon south stand
    start still stop story strong such sure take talk tell ten than thank thanks that the their them then there
    these they thing think this those though thought three through time to today together told too took town
    tree true try turn two under until up upon use usual very view walk want warm was way we week well went were
    west what when where which while who whole why will wish with within without word work world would write
    year yes yet you young your cannot strictly
    """
)
PLACES = _split(
    """
    avenue block boulevard bridge building castle centre church city close corner court cross district drive
    east estate field floor garden gate grove harbour heights hill industrial island junction lane level lot
    mall market mews north park place plaza point port quay ring road square station street suite terrace tower
    town unit valley view village west wharf yard jalan taman lorong bandar kampung pasar persiaran lebuh bukit
    sungai kuala johor selangor perak kedah melaka pahang sabah strasse platz allee berlin hamburg wien bern rue
    quai paris lyon nantes lille calle avenida madrid sevilla bilbao lima quito london leeds bristol dublin cork
    boston austin denver oslo bergen malmo turku
    """
)
MALAY = _split(
    """
    ada air akaun anda atau ayam baru baki bayar bayaran barang besar bilangan borong buah buku cukai dan dari
    dengan diskaun empat gula harga hari hitam ikan ini itu jualan jumlah kasih kami kedai kecil kereta kopi
    kosong kuning lada lima makan makanan manis masa masuk merah minum minyak nama nasi nombor oleh orang pada
    panas pelanggan perniagaan pulang putih roti rumah sahaja satu sayur sejuk selamat semua sila susu syarikat
    tarikh teh telur tempat terima tiga tunai untuk wang yang
    """
)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
LONG_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November"),
    *("December", "Januar", "Februar", "Juni", "Juli", "Oktober", "Dezember", "janvier", "avril", "juin", "juillet"),
    *("septembre", "octobre", "enero", "abril", "mayo", "julio", "agosto", "octubre", "noviembre", "diciembre"),
)
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Monday", "Tuesday", "Friday", "Sunday")
ACCENTED = _split(
    """
    für über Größe Straße groß Stück Gebühr Rückgabe Käse Brötchen Bäckerei Küche Getränk Öl Äpfel Müller Köln
    München Zürich Österreich Übertrag Währung Fuß weiß süß heiß später möglich natürlich ähnlich öffnen
    Schlüssel Tür Gemüse Würstchen Menü Büro schön fünf zwölf zurück können müssen Maß Gruß außer Ärzte Öfen
    Überweisung prüfen gültig Jäger été après très près français façade reçu crédit débit numéro téléphone
    référence pièce théâtre forêt hôtel hôpital château gâteau pâté crêpe fête tête bête même être août goût dû
    sûr où là voilà déjà élève œuvre cœur Noël naïf maïs égoût ça garçon leçon règlement société marché café thé
    bière crème légumes pêche poêle côté diplôme îles Éclair École Étage Été À Ça Être Île Ôter Où année journée
    père mère frère entrée décembre février créé año niño mañana señor señora España español teléfono número
    dirección código artículo descripción información crédito débito también está más después según jamón limón
    melón azúcar té plátano atún piña leña baño sábado miércoles días médico público página línea único último
    rápido fácil difícil él tú sí aquí allí así Ñandú ¿Qué? ¡Olé! ação não são pão mão coração informação preço
    serviço cartão água três você à é português blåbær rødgrød smørrebrød ål ø å Ålesund Østfold Malmö Göteborg
    Århus kød brød mælk øl æble fløde frø små på også façon Curaçao São João Ångström Ærø Þór Ðakan þing það
    Ísland Ýmir ýta fullþroska Citroën Zoë ïambe Brontë l'été perché città caffè più però così università
    qualità tè giù è né Forlì Nicolò Ùltimo Õun sõna täht jõgi vöö üks
    """
)
_ONSETS = (
    *("b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z", "y", "qu", "x", "", ""),
    *("bl", "br", "ch", "cl", "cr", "dr", "fl", "fr", "gl", "gr", "kr", "ph", "pl", "pr", "sc", "sh", "sl", "sp", "st"),
    *("str", "sw", "th", "tr", "wh", "kn", "ng", "mb", "sch", "j", "v", "w", "x", "z", "qu"),
)
_NUCLEI = (
    "a",
    "e",
    "i",
    "o",
    "u",
    "a",
    "e",
    "i",
    "o",
    "ai",
    "ea",
    "ee",
    "ei",
    "ia",
    "ie",
    "io",
    "oa",
    "oo",
    "ou",
    "ue",
    "y",
)
_CODAS = (
    *("", "", "", "", "n", "r", "s", "t", "l", "m", "d", "k", "ng", "nd", "nt", "st", "rt", "ck", "ll", "ss", "sh"),
    *("x", "z", "p", "b", "g", "f", "ft", "lk", "rm", "tz"),
)
VARIANTS = {
    "a": "àáâãäåæ",
    "c": "ç",
    "d": "ð",
    "e": "èéêë",
    "i": "ìíîï",
    "n": "ñ",
    "o": "òóôõöø",
    "p": "þ",
    "s": "ß",
    "u": "ùúûü",
    "y": "ýÿ",
}
"""Latin-1 letters that stand in for a plain one."""
_SHELVES = (BUSINESS, GOODS, COMMON, BUSINESS, GOODS, PLACES, MALAY)


def word(dice: Dice) -> str:
    """Return a lower-case word: a listed one, or one time in four a made-up one."""
    return made_up(dice) if dice.chance(0.25) else dice.pick(dice.pick(_SHELVES))


def made_up(dice: Dice) -> str:
    """Return one to four syllables that no language need have."""
    count = dice.pick((1, 2, 2, 2, 3, 3, 4))
    return "".join(dice.pick(_ONSETS) + dice.pick(_NUCLEI) for _ in range(count)) + dice.pick(_CODAS)


def accented(dice: Dice) -> str:
    """Return a word with letters outside ASCII: a listed one, or any word with its letters varied."""
    if dice.chance(0.6):
        return dice.pick(ACCENTED)
    letters = [dice.pick(VARIANTS[char]) if char in VARIANTS and dice.chance(0.4) else char for char in word(dice)]
    return "".join(letters)
