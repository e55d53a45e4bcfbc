<?php
// The source of told.php: what a script hears of itself.
function told()
{
    $said = '';
    foreach (['SCRIPT_NAME', 'PATH_INFO', 'PHP_SELF', 'DOCUMENT_ROOT', 'QUERY_STRING'] as $name) {
        $said .= " $name=$_SERVER[$name]";
    }
    return "$said\n";
}
